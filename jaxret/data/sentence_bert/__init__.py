"""Texts as sentence-transformers' BERT models are given them."""
