"""Qwen2-VL: model, tower, files."""
MODEL_TYPES = ('qwen2_vl', 'qwen2_vl_text')
GENERATIVE_TYPES = MODEL_TYPES
RERANKING_TYPES = ('qwen2_vl',)
