"""Qwen2-VL: model, tower, files."""
