"""How CLIP and SigLIP 2 see images and videos: frames, sizes, patches.

As the image processors of transformers on PIL do; those on torchvision differ
by up to a grey level. Whoever embeds says how: a `processor` has the fields
size, crop, resample, patch_px and max_patches of models.dual_encoder.model.
"""
import dataclasses
import math

import numpy as np

MOST_OBLONG = 200  # sides of an image; the shorter one is made as long as any


@dataclasses.dataclass(frozen=True)
class Resolution:
  """What is seen of a video. max_frames: spread evenly, a shorter one whole.

  Twelve are what CLIP4Clip (arXiv 2104.08860) sees.
  """
  max_frames: int = 12

  def __post_init__(self):
    if type(self.max_frames) is not int or self.max_frames < 1:
      raise ValueError(f'Resolution: got max_frames = {self.max_frames!r}, '
                       'want a whole number from 1 on')


class Policy:
  """Chooses and resizes frames, as data.qwen2_vl.seen asks for it."""

  def __init__(self, processor, resolution):
    self.processor, self.resolution = processor, resolution

  def choose_frames(self, n_frames, fps=None):
    """Indices of the frames that are seen, int64."""
    n = min(n_frames, self.resolution.max_frames)
    return np.round(np.linspace(0, n_frames - 1, n)).astype(np.int64)

  choose_listed = choose_frames

  def sizes(self, kind, height, width, n_frames, listed):
    """[(height, width)] that images of this size are resized to."""
    return [resized(height, width, self.processor)]

  def resize(self, kind, frames, listed=False):
    """uint8 [F, H, W, 3] as the model sees them, resized and cropped."""
    return np.stack([resize(frame, self.processor) for frame in frames])


def resized(height, width, processor):
  """(height, width) of an image before it is cropped.

  Raises ValueError for one that is too oblong.
  """
  p = processor
  if max(height, width) > MOST_OBLONG * min(height, width):
    raise ValueError(f'{width}x{height} pixels, one side over {MOST_OBLONG} '
                     'times the other: crop it')
  if p.max_patches:
    return limited(height, width, p.patch_px, p.max_patches)
  if not isinstance(p.size, int):
    return p.size
  if height <= width:
    return p.size, int(p.size * width / height)
  return int(p.size * height / width), p.size


def limited(height, width, patch_px, max_patches, eps=1e-5):
  """The largest (height, width) in whole patches, at most so many.

  Each side is rounded up; the scale is searched for by halving, as the
  processor of SigLIP 2 does.
  """
  def patches(scale):
    return [max(1, math.ceil(side * scale / patch_px))
            for side in (height, width)]
  least, most = eps / 10, 100.0
  while most - least >= eps:
    scale = (least + most) / 2
    if math.prod(patches(scale)) <= max_patches:
      least = scale
    else:
      most = scale
  return tuple(n * patch_px for n in patches(least))


def resize(image, processor):
  """uint8 [H, W, 3], resized by PIL, and its middle where it is cropped."""
  from PIL import Image
  height, width = resized(*image.shape[:2], processor)
  if image.shape[:2] != (height, width):
    image = np.asarray(Image.fromarray(image).resize(
        (width, height), Image.Resampling(processor.resample)))
  if processor.crop:
    top, left = ((side - seen) // 2
                 for side, seen in zip((height, width), processor.crop))
    image = image[top:top + processor.crop[0], left:left + processor.crop[1]]
  return image


def patchify(images, patch_px):
  """uint8 [F, H, W, 3] -> (patches [F, P, V], (rows, columns)).

  Patches row by row, the values of one in the order row, column, channel.
  """
  frames, height, width, _ = images.shape
  rows, columns = height // patch_px, width // patch_px
  x = images.reshape(frames, rows, patch_px, columns, patch_px, 3)
  return x.swapaxes(2, 3).reshape(frames, rows * columns, -1), (rows, columns)
