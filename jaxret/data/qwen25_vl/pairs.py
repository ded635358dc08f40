"""Queries with their candidates for Qwen2.5-VL: Qwen2-VL's, videos in time."""
from jaxret.data.qwen2_vl.pairs import open_reader

__all__ = ['open_reader']
