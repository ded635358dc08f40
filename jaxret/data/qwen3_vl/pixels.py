"""Qwen3-VL's preprocessing: which frames are looked at, and at what size.

`Resolution` is what the authors' embedder does (spec §3), by qwen-vl-utils
0.0.14; `Processor` what transformers does before the model answers. Patches
are cut as for Qwen2-VL, of 16 pixels.
"""
import dataclasses
import math

import numpy as np

from jaxret.data.qwen2_vl import pixels as qwen2_vl

PATCH_PX = 16
TOKEN_PX = 32
_TOKEN = TOKEN_PX ** 2
LISTED_FPS = 2.0  # at which a list of frames is taken to run
UNKNOWN_FPS = 24.0  # of a video that does not say it
# Which sizes differ, those of sides under half a token, and that of videos.
TRANSFORMERS = 'tf523'


@dataclasses.dataclass(frozen=True)
class Resolution:
  """Limits in pixels and frames; the defaults are those of the embedder.

  image: (least, most) of an image. frame: the same of a frame of a video,
  whose most falls where there are many: listed_total or file_total over their
  number, times two. fps, min_frames, max_frames: frames per second of a file
  that are looked at, and their number; a list is thinned to max_frames.
  listed_px: frames of a list are made multiples of it first. The release has
  64; its repository, later, 32.
  """
  image: tuple[int, int] = (4 * _TOKEN, 1800 * _TOKEN)
  frame: tuple[int, int] = (128 * _TOKEN, 768 * _TOKEN)
  listed_total: float = 7680 * _TOKEN
  file_total: float = 0.9 * 128000 * _TOKEN
  fps: float = 1.0
  min_frames: int = 4
  max_frames: int = 64
  listed_px: int = 64

  def __post_init__(self):
    _check(self, ('image', 'frame'))

  def choose_frames(self, n_frames, fps):
    """The frames of a file that are looked at, an even number, int64.

    The authors cannot read a file of one frame: it is shown twice.
    """
    if n_frames < 2:
      return np.zeros(2, np.int64)
    return qwen2_vl.frame_indices(n_frames, qwen2_vl.frame_count(
        n_frames, fps or UNKNOWN_FPS, self.fps, self.min_frames,
        self.max_frames, library=qwen2_vl.LIBRARIES[1]))

  def choose_listed(self, n_frames):
    """The same of a list of frames, any number."""
    count = min(n_frames, self.max_frames)
    return np.linspace(0, n_frames - 1, count).astype(np.int64)

  def times(self, indices, fps, listed):
    """When the frames are shown, in seconds; fps None = not known."""
    if listed:  # an odd last frame, shown twice, has a time of its own
      return np.arange(len(indices) + len(indices) % 2) / LISTED_FPS
    return indices / (fps or UNKNOWN_FPS)

  def frame_limits(self, n_frames, listed):
    """(least, most) pixels of each of so many frames."""
    total = self.listed_total if listed else self.file_total
    return qwen2_vl.frame_limits(self.frame, total, n_frames)

  def sizes(self, kind, height, width, n_frames=1, listed=False):
    """The sizes (height, width) a medium goes through, one or two of them."""
    if kind == 'image':
      return [_resized(height, width, self.image)]
    size, first = (height, width), []
    if listed:
      px = self.listed_px
      size = qwen2_vl.smart_resize(
          *size, (4 * px ** 2, 16384 * px ** 2), token_px=px)
      first = [size]
    n_frames += n_frames % 2  # an odd last frame is shown twice
    return [*first, _resized(*size, self.frame_limits(n_frames, listed))]

  def resize(self, kind, frames, listed=False):
    """Frames uint8, a sequence of [H, W, 3], at their final size [F, ...]."""
    sizes = self.sizes(kind, *frames[0].shape[:2], len(frames), listed)
    if kind == 'image':
      return qwen2_vl.resize(frames, sizes)
    if listed:
      frames = qwen2_vl.resize(frames, sizes[:1])
    return np.stack([
        qwen2_vl.resize_in_float(frame, sizes[-1]) for frame in frames])


def resolution(section):
  """The Resolution of a config's `media` section.

  Its n_frames is how many frames of a file are looked at, and of a list at
  most; 0 = as its other fields say. Raises ValueError for an odd one.
  """
  fields = {name: tuple(value) if isinstance(value, (tuple, list)) else value
            for name, value in section.items()}
  count = fields.pop('n_frames')
  if count % 2:
    raise ValueError(f'media.n_frames is {count}, want an even number: '
                     'Qwen3-VL looks at two frames at a time')
  if count:
    fields |= {'min_frames': count, 'max_frames': count}
  return Resolution(**fields)


@dataclasses.dataclass(frozen=True)
class Processor:
  """The same as transformers has it; the defaults are those of the hub.

  image: (least, most) pixels of an image. video: the same of all frames of a
  video together. fps, min_frames, max_frames: as Resolution has them.
  """
  image: tuple[int, int] = (65536, 16777216)
  video: tuple[int, int] = (4096, 25165824)
  fps: float = 2.0
  min_frames: int = 4
  max_frames: int = 768

  def __post_init__(self):
    _check(self, ('image', 'video'))

  def choose_frames(self, n_frames, fps):
    count = int(n_frames / (fps or UNKNOWN_FPS) * self.fps)
    count = min(max(count, self.min_frames), self.max_frames, n_frames)
    return np.linspace(0, n_frames - 1, count).round().astype(np.int64)

  def choose_listed(self, n_frames):
    return self.choose_frames(n_frames, None)

  def times(self, indices, fps, listed):
    del listed
    return indices / (fps or UNKNOWN_FPS)

  def sizes(self, kind, height, width, n_frames=1, listed=False):
    del listed
    if kind == 'image':
      return [_resized(height, width, self.image, TRANSFORMERS)]
    return [video_resize(n_frames, height, width, self.video)]

  def resize(self, kind, frames, listed=False):
    sizes = self.sizes(kind, *frames[0].shape[:2], len(frames), listed)
    if kind == 'image':
      return qwen2_vl.resize(frames, sizes)
    return np.stack([
        qwen2_vl.resize_in_float(frame, sizes[0]) for frame in frames])


def _check(policy, limits):
  """Raises ValueError for limits that no medium can keep."""
  for name in limits:
    least, most = getattr(policy, name)
    if not 0 < least <= most or most < _TOKEN:
      raise ValueError(f'{name}: got ({least}, {most}) pixels, want the least '
                       f'and the most, {_TOKEN} or more')
  if policy.fps <= 0 or not 2 <= policy.max_frames:
    raise ValueError(f'got fps = {policy.fps}, max_frames = '
                     f'{policy.max_frames}; want more than 0, and at least 2')


def _resized(height, width, limits, variant=qwen2_vl.RESIZE_VARIANTS[0]):
  return qwen2_vl.smart_resize(height, width, limits, variant, TOKEN_PX)


def video_resize(n_frames, height, width, limits):
  """(height, width), multiples of a token's pixels, of so many frames.

  limits: (least, most) of all frames together, whose number is rounded to
  even there. A side under one token is enlarged first, as transformers 5 does;
  4.57 refuses it. Raises ValueError for an aspect ratio over 200.
  """
  least, most = limits
  if min(height, width) < TOKEN_PX:
    scale = max(TOKEN_PX / height, TOKEN_PX / width)
    height, width = int(height * scale), int(width * scale)
  if max(height, width) / min(height, width) > qwen2_vl.LARGEST_RATIO:
    raise ValueError(f'{width}x{height} pixels: want an aspect ratio of at '
                     f'most {qwen2_vl.LARGEST_RATIO}: cut it')
  def whole(rounding, scale):
    return tuple(rounding(side * scale / TOKEN_PX) * TOKEN_PX
                 for side in (height, width))
  size = whole(round, 1)
  volume = round(n_frames / 2) * 2 * math.prod(size)
  given = n_frames * height * width
  if volume > most:
    beta = math.sqrt(given / most)
    return tuple(max(TOKEN_PX, math.floor(side / beta / TOKEN_PX) * TOKEN_PX)
                 for side in (height, width))
  return whole(math.ceil, math.sqrt(least / given)) if volume < least else size


def patchify(frames):
  """Patches of 16 pixels and their grid; see data.qwen2_vl.pixels."""
  return qwen2_vl.patchify(frames, PATCH_PX)


def seconds_shown(times):
  """What a prompt calls the temporal patches of frames shown at `times`.

  The middle of the first and last of each patch, to a tenth; exact halves go
  to even, and an odd last frame is shown twice.
  """
  times = [*times, *times[len(times) - len(times) % 2:]]
  return [f'{(first + last) / 2:.1f}'
          for first, last in zip(times[::2], times[1::2])]
