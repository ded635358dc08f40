"""Qwen3-VL and its embedder and reranker: model, tower, files."""
MODEL_TYPES = ('qwen3_vl',)
GENERATIVE_TYPES = MODEL_TYPES
RERANKING_TYPES = MODEL_TYPES
