"""How much of a host's core an item takes until it is ready for the device.

Decoding, resizing and cutting into patches, of media that are made here, sizes
as given: what a run's own reader does with a JPEG or an H.264 video.
"""
import io
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxret.data import types
from jaxret.data.shapes import render

FPS = 25
# Of a video, as an index's window is; what is looked at is spread over it.
SECONDS = 10.0


class Input(NamedTuple):
  """What a job reads. items: how many. core_seconds: of one core, for one."""
  items: float
  core_seconds: float


def medium(frames: int, px: tuple[int, int], seconds: float = SECONDS
           ) -> types.Item:
  """An Item of a JPEG, or of a video of `seconds` where frames are several.

  px: height and width. Its pictures are smooth, with some noise, and move.
  """
  height, width = px
  pictures = _pictures(1 if frames == 1 else round(seconds * FPS), *px)
  if frames > 1:  # of an even size, as H.264 has it
    return types.Item('sample', video=render.encode_video(
        pictures[:, :height // 2 * 2, :width // 2 * 2]))
  from PIL import Image
  file = io.BytesIO()
  Image.fromarray(pictures[0]).save(file, 'jpeg', quality=90)
  return types.Item('sample', image=file.getvalue())


def core_seconds(read: Callable[[], object], least_seconds: float = 0.2
                 ) -> float:
  """CPU seconds of one call, of all threads; the mean of several."""
  read()  # what is opened once is not counted
  count, start = 0, time.process_time()
  while not count or time.process_time() - start < least_seconds:
    read()
    count += 1
  return (time.process_time() - start) / count


def _pictures(count, height, width):
  """uint8 [count, height, width, 3]."""
  from PIL import Image
  rng = np.random.default_rng(0)
  rough = rng.integers(0, 256, (height // 32 + 2, width // 32 + 2, 3), np.uint8)
  smooth = np.asarray(Image.fromarray(rough).resize(
      (width, height), Image.Resampling.BICUBIC), np.int16)
  noise = rng.integers(-6, 7, (height, width, 3), np.int16)
  moved = (np.roll(smooth, 2 * number, 1) + np.roll(noise, number, 0)
           for number in range(count))
  return np.stack([np.clip(one, 0, 255).astype(np.uint8) for one in moved])
