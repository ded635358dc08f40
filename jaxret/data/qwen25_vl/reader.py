"""Items of text, images and videos as the padded arrays of Qwen2.5-VL.

All is Qwen2-VL's but for the Layout: windows, and videos in time.
"""
from jaxret.data.qwen2_vl.reader import open_reader

__all__ = ['open_reader']
