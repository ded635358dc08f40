"""What LLaVA-NeXT and MM-Embed are given: crops, tokens, prompts."""
