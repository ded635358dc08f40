"""Reranking: how well candidates answer queries, by a generative model."""
