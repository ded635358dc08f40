"""Which frames Qwen2.5-VL's own library looks at, and at what size.

qwen-vl-utils 0.0.14, which its authors' examples read media with; the
processor that comes after it changes nothing. A list of frames is resized once
here, as those of a file are; the library first makes each an image's size.
"""
import dataclasses

import numpy as np

from jaxret.data.qwen2_vl import pixels as qwen2_vl

_TOKEN = qwen2_vl.TOKEN_PX ** 2
LIBRARY = qwen2_vl.LIBRARIES[1]


@dataclasses.dataclass(frozen=True)
class Resolution(qwen2_vl.Resolution):
  """Limits of the only resizing, (least, most) pixels, and frame sampling.

  read_image, read_video: of an image, of a frame. video_total: of all frames
  of a video; where they are many, twice their share is the most of each.
  Others as of qwen2_vl.Resolution, but `released` and `processor`, which are
  refused.
  """
  released: bool = False
  read_image: tuple[int, int] = (4 * _TOKEN, 16384 * _TOKEN)
  read_video: tuple[int, int] = (128 * _TOKEN, 768 * _TOKEN)
  video_total: float = 0.9 * 128000 * _TOKEN
  fps: float = 2.0
  max_frames: int = 768

  def __post_init__(self):
    for name, only in (('released', False),
                       ('processor', qwen2_vl.Resolution.processor)):
      if getattr(self, name) != only:
        raise ValueError(f'{name} = {getattr(self, name)!r} has no effect on '
                         'a resolution of Qwen2.5-VL, which resizes once to '
                         'read_image or read_video: leave it out')

  def choose_frames(self, n_frames, fps):
    return qwen2_vl.choose_frames(n_frames, fps, self, LIBRARY)

  def frame_limits(self, n_frames):
    """(least, most) pixels of each of so many frames."""
    return qwen2_vl.frame_limits(self.read_video, self.video_total, n_frames)

  def sizes(self, kind, height, width, n_frames=1, listed=False):
    """The size (height, width) a medium goes to, a list of one."""
    del listed
    limits = (self.read_image if kind == 'image' else self.frame_limits(
        n_frames + n_frames % qwen2_vl.FRAME_FACTOR))
    return [qwen2_vl.smart_resize(height, width, limits)]

  def resize(self, kind, frames, listed=False):
    """Frames uint8, a sequence of [H, W, 3], at their final size [F, ...]."""
    sizes = self.sizes(kind, *frames[0].shape[:2], len(frames), listed)
    if kind == 'image':
      return qwen2_vl.resize(frames, sizes)
    return np.stack([
        qwen2_vl.resize_in_float(frame, sizes[0]) for frame in frames])
