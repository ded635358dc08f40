"""Qwen2-VL's preprocessing: sizes, frames and patches, without PyTorch.

Sizes come from smart resizing: both sides multiples of a token's pixels, the
area between two limits. UNITE resizes twice, once while it reads a medium and
again in the processor (spec §3); `Resolution` has both limits.
"""
import dataclasses
import functools
import math

import numpy as np

PATCH_PX = 14
MERGE = 2
TOKEN_PX = PATCH_PX * MERGE
TEMPORAL_PATCH = 2
FRAME_FACTOR = 2
LARGEST_RATIO = 200
_TOKEN = TOKEN_PX ** 2
# Which side may not fall under one token, and where: the three
# implementations in use differ for sides below 28 pixels alone.
RESIZE_VARIANTS = ('qwen_vl_utils_0_0_8', 'tf447', 'tf523')
# Versions of qwen-vl-utils: the first, which UNITE has, rounds the number of
# frames to an even one, the other cuts it.
LIBRARIES = ('0.0.8', '0.0.14')


@dataclasses.dataclass(frozen=True)
class Resolution:
  """Limits of the two resizings, (least, most) pixels, and frame sampling.

  released: resize twice, as the authors' code does: while reading, to
    `read_image` or `read_video`, then to `processor`. A video is enlarged
    again by the second. False resizes once: an image to `processor`, a video
    only where it is larger than the most of `read_video`.
  read_video: the authors' default least is above their most, so that small
    clips are enlarged past it.
  fps, min_frames, max_frames: frames per second of a video that are looked
    at, and their number at least and at most; n_frames, if set, is a fixed
    number instead.
  """
  released: bool = True
  read_image: tuple[int, int] = (4 * _TOKEN, 16384 * _TOKEN)
  read_video: tuple[int, int] = (128 * _TOKEN, 240 * 320)
  processor: tuple[int, int] = (256 * _TOKEN, 1280 * _TOKEN)
  fps: float = 1.0
  min_frames: int = 4
  max_frames: int = 12
  n_frames: int = 0

  def choose_frames(self, n_frames, fps):
    """The frames of a file that are looked at, int64; see `choose_frames`."""
    return choose_frames(n_frames, fps, self)

  def choose_listed(self, n_frames):
    """Of frames that the caller has sampled: all, or evenly the most."""
    most = self.n_frames or self.max_frames
    return frame_indices(n_frames, min(n_frames, most))

  def sizes(self, kind, height, width, n_frames=1, listed=False):
    """The sizes (height, width) a medium goes through, one or two of them.

    Here all frames and lists of them are alike; other backbones count them.
    """
    del n_frames, listed
    read = self.read_image if kind == 'image' else self.read_video
    if not self.released:
      limits = self.processor if kind == 'image' else (
          self.read_image[0], self.read_video[1])
      return [smart_resize(height, width, limits)]
    first = smart_resize(height, width, read)
    return [first, smart_resize(*first, self.processor)]

  def resize(self, kind, frames, listed=False):
    """Frames uint8, a sequence of [H, W, 3], at their final size [F, ...].

    listed: whether they are those of a list; all are alike here.
    """
    del listed
    sizes = self.sizes(kind, *frames[0].shape[:2])
    if kind == 'video' and self.released:
      frames = [resize_in_float(frame, sizes[0]) for frame in frames]
    return resize(frames, sizes)


def resolution(section):
  """The Resolution of a config's `media` section."""
  return Resolution(**{
      name: tuple(value) if isinstance(value, (tuple, list)) else value
      for name, value in section.items()})


def smart_resize(height, width, limits, variant=RESIZE_VARIANTS[0],
                 token_px=TOKEN_PX):
  """(height, width), multiples of `token_px` with an area within `limits`.

  variant: 'qwen_vl_utils_0_0_8', which UNITE has, 'tf447' or 'tf523': the
  processors of transformers 4.47.1 and 5.23. Raises ValueError for an aspect
  ratio over 200 and, as 'tf447', for a side under one token.
  """
  least, most = limits
  if variant == 'tf447' and min(height, width) < token_px:
    raise ValueError(f'{width}x{height} pixels: want sides of at least '
                     f'{token_px}: enlarge it')
  if max(height, width) / min(height, width) > LARGEST_RATIO:
    raise ValueError(f'{width}x{height} pixels: want an aspect ratio of at '
                     f'most {LARGEST_RATIO}: cut it')
  least_side = 0 if variant == 'tf447' else token_px
  rounded = [round(side / token_px) * token_px for side in (height, width)]
  if variant == RESIZE_VARIANTS[0]:
    rounded = [max(least_side, side) for side in rounded]
  area = rounded[0] * rounded[1]
  if area > most:
    beta = math.sqrt(height * width / most)
    rounded = [math.floor(side / beta / token_px) * token_px
               for side in (height, width)]
    if variant == 'tf523':
      rounded = [max(least_side, side) for side in rounded]
  elif area < least:
    beta = math.sqrt(least / (height * width))
    rounded = [math.ceil(side * beta / token_px) * token_px
               for side in (height, width)]
  return tuple(rounded)


def frame_count(n_frames, video_fps, fps=None, min_frames=4, max_frames=None,
                count=None, library=LIBRARIES[0]):
  """How many frames of a video are looked at, an even number.

  count: a fixed number instead of `fps` frames per second. library: one of
  LIBRARIES. Raises ValueError where the video has fewer frames, but for those
  that a newer library cuts to it.
  """
  def factor(rounding, number):
    return rounding(number / FRAME_FACTOR) * FRAME_FACTOR
  if count:
    wanted = factor(round, count)
  else:
    if max_frames is None:
      max_frames = min(768, n_frames)
    wanted = n_frames / video_fps * (fps or 2.0)
    wanted = min(max(wanted, factor(math.ceil, min_frames)),
                 factor(math.floor, max_frames))
    if library == LIBRARIES[0]:
      wanted = factor(round, wanted)
    else:
      wanted = factor(math.floor, min(wanted, n_frames))
  if not FRAME_FACTOR <= wanted <= n_frames:
    raise ValueError(f'{wanted} frames wanted of a video that has {n_frames}; '
                     f'want between {FRAME_FACTOR} and {n_frames}')
  return wanted


def frame_indices(n_frames, count):
  """`count` frames from the first to the last, int64; halves go to even."""
  # In float32, as the authors' torch.linspace: halves round alike.
  step = np.float32(n_frames - 1) / np.float32(max(count - 1, 1))
  index = np.arange(count, dtype=np.float32)
  half = count // 2
  forward = index * step
  backward = np.float32(n_frames - 1) - (count - 1 - index) * step
  places = np.where(index < half, forward, backward)
  return np.round(places).astype(np.int64)


def choose_frames(n_frames, video_fps, resolution, library=LIBRARIES[0]):
  """The frames of a video that a Resolution looks at, int64.

  A video shorter than the least number gives all of its frames but an odd
  last one, a single frame twice; the authors drop such a video.
  """
  r = resolution
  if n_frames < FRAME_FACTOR:
    return np.zeros(FRAME_FACTOR, np.int64)
  try:
    count = frame_count(n_frames, video_fps or 1.0, r.fps, r.min_frames,
                        r.max_frames, r.n_frames, library)
  except ValueError:
    count = n_frames // FRAME_FACTOR * FRAME_FACTOR
  return frame_indices(n_frames, count)


def frame_limits(limits, total, n_frames):
  """(least, most) pixels of each of so many frames, of newer LIBRARIES.

  limits: of one frame alone. total: of all frames; where they are many, twice
  their share is the most of each.
  """
  least, most = limits
  share = total / n_frames * FRAME_FACTOR
  return least, max(min(most, share), int(least * 1.05))


def resize(frames, sizes):
  """uint8 [F, H, W, 3] through PIL's bicubic to each of `sizes` in turn."""
  from PIL import Image
  out = []
  for frame in frames:
    image = Image.fromarray(frame)
    for height, width in sizes:
      if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    out.append(np.asarray(image))
  return np.stack(out)


def resize_in_float(frame, size):
  """uint8 [H, W, 3] to `size` as torchvision's bicubic with antialiasing.

  UNITE resizes videos with it while reading. The kernel is PIL's, but nothing
  is rounded between the two passes; one pixel in ten thousand differs by one.
  PIL's own mode F is not the same to the bit either.
  """
  height, width = frame.shape[:2]
  if (height, width) == tuple(size):
    return frame
  x = frame.astype(np.float32).reshape(height, -1)
  x = (_bicubic(height, size[0]) @ x).reshape(size[0], width, -1)
  # Rows of one channel together: one large product is over twice as fast as
  # one of three columns for each row.
  x = x.swapaxes(1, 2).reshape(-1, width) @ _bicubic(width, size[1]).T
  x = np.clip(np.round(x), 0, 255).astype(np.uint8)
  return np.ascontiguousarray(
      x.reshape(size[0], -1, size[1]).swapaxes(1, 2))


@functools.lru_cache(maxsize=64)
def _bicubic(n_in, n_out):
  """float32 [n_out, n_in] of Keys' kernel, widened where it shrinks."""
  wide = max(n_in / n_out, 1)
  centre = (np.arange(n_out)[:, None] + 0.5) * n_in / n_out
  place = np.arange(n_in)
  d = np.abs(place + 0.5 - centre) / wide
  near = (1.5 * d - 2.5) * d * d + 1
  far = ((d - 5) * d + 8) * -0.5 * d + 2
  weight = np.where(d < 1, near, np.where(d < 2, far, 0))
  return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def grid_of(n_frames, height, width, patch_px=PATCH_PX):
  """(t, h, w) of an image (one frame) or a video at its final size."""
  return -(-n_frames // TEMPORAL_PATCH), height // patch_px, width // patch_px


def patchify(frames, patch_px=PATCH_PX):
  """Patches of frames at their final size, and their grid.

  A missing frame at the end of a temporal patch repeats the last one: an image
  fills its patch with two of itself.

  Args:
    frames: uint8 or float [F, H, W, 3], H and W multiples of a token's pixels.
    patch_px: a patch's.

  Returns:
    ([t * h * w, 6 * patch_px ** 2] in the dtype of the frames, (t, h, w)).
    Patches go by slice, then 2 x 2 blocks by row; the values of one by
    channel, time, row and column.
  """
  n_frames, height, width, channels = frames.shape
  grid = grid_of(n_frames, height, width, patch_px)
  missing = grid[0] * TEMPORAL_PATCH - n_frames
  frames = np.concatenate([frames, np.repeat(frames[-1:], missing, 0)])
  t, h, w = grid
  x = frames.reshape(t, TEMPORAL_PATCH, h // MERGE, MERGE, patch_px,
                     w // MERGE, MERGE, patch_px, channels)
  #   t, block row, block column, row, column, channel, time, y, x
  x = x.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
  return np.ascontiguousarray(x).reshape(t * h * w, -1), grid
