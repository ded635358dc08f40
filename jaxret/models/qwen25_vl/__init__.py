"""Qwen2.5-VL: its tower and files; the rest is Qwen2-VL's."""
MODEL_TYPES = ('qwen2_5_vl', 'qwen2_5_vl_text')
GENERATIVE_TYPES = MODEL_TYPES
RERANKING_TYPES = ('qwen2_5_vl',)
