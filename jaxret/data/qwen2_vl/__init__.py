"""What Qwen2-VL is given: pixels, the layout of its tokens, prompts."""
