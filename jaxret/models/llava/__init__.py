"""LLaVA-NeXT, and MM-Embed, which reads with its eyes."""
