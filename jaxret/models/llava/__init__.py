"""LLaVA-NeXT, and MM-Embed, which reads with its eyes."""
MODEL_TYPES = ('llava_next', 'nvembed')  # MM-Embed and NV-Embed-v1
GENERATIVE_TYPES = ('llava_next',)
RERANKING_TYPES = GENERATIVE_TYPES
