"""What Qwen2.5-VL is given."""
