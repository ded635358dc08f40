"""Prompts that Qwen2.5-VL continues: Qwen2-VL's, with videos in time."""
from jaxret.data.qwen2_vl.continuations import open_reader

__all__ = ['open_reader']
