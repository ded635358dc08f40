"""What Qwen3-VL is given: pixels, prompts, and where both go."""
