"""LLaVA-NeXT's images: the whole one squashed, tiles of it, and token order.

Source: LLaVA-NeXT as MM-Embed (arXiv 2411.02571) uses it. Crop 0 is the whole
image resized to a square, its aspect ratio not kept. With pinpoints (anyres)
the image is also fitted into the best of several canvases and cut into tiles.
"""
import contextlib
import math
import os
from typing import NamedTuple

import numpy as np

from jaxret.data import images, media, sources

NEWLINE = -1  # in `token_order`: the learned vector that ends a row


class Grid(NamedTuple):
  """How images are cut.

  image_px: side of a crop; patch_px: of a patch. pinpoints: (height, width) of
  the canvases that tiles are cut from, multiples of image_px; () = crop 0 is
  all that is seen. transposed: order the tokens of tiles as transformers
  4.42.4 does, which takes rows of tiles for columns.
  """
  image_px: int
  patch_px: int
  pinpoints: tuple[tuple[int, int], ...] = ()
  transposed: bool = False

  @property
  def side(self):
    """Patches along a side of a crop."""
    return self.image_px // self.patch_px


def read(source, name, alpha='white'):
  """A still image as uint8 [H, W, 3].

  source: a path, encoded bytes, uint8 pixels [H, W, 3] or a PIL image; `name`
  is the item's; alpha: of transparent pixels, as data.images.shown has it.
  Raises media.MediaError for what cannot be read, ValueError for what is no
  image.
  """
  if isinstance(source, (str, bytes, os.PathLike)) or images.is_pil(source):
    with _blamed(name):
      return media.read_still(source, 'a PIL image', alpha)
  if (not isinstance(source, np.ndarray) or source.dtype != np.uint8
      or source.ndim != 3 or source.shape[-1] != 3 or not source.size):
    got = (f'{source.dtype} {source.shape}' if isinstance(source, np.ndarray)
           else type(source).__name__)
    raise ValueError(f'{name}: its image is {got}; want one image: a path, '
                     'encoded bytes, or uint8 pixels [H, W, 3]')
  return source


def check(source, name):
  """Raises as `read` does for what the header of a file shows."""
  size_of(source, name)


def size_of(source, name):
  """(height, width) of an image, from the header of a file alone."""
  if isinstance(source, (str, bytes, os.PathLike)) or images.is_pil(source):
    with _blamed(name):
      return media.size_of(source, 'a PIL image')
  return read(source, name).shape[:2]


@contextlib.contextmanager
def _blamed(name):
  try:
    with sources.blamed('a medium', 'its image cannot be used'):
      yield
  except media.MediaError as error:
    raise media.MediaError(
        name, f'its image cannot be read: {error}') from error


def squash(image, image_px):
  """uint8 [H, W, 3] -> [image_px, image_px, 3], PIL's bicubic."""
  return _resize(image, image_px, image_px)


def crops(image, grid):
  """uint8 [crops, image_px, image_px, 3]: crop 0, then tiles row by row.

  The tiles are of the image fitted into its canvas, centred on black; where
  the margins differ by a pixel the later one is wider (transformers 4.42.4
  leaves that pixel out, and resizes tiles that then are too small).
  """
  size = image.shape[:2]
  whole = squash(image, grid.image_px)[None]
  if not grid.pinpoints:
    return whole
  canvas = best_canvas(size, grid.pinpoints)
  height, width = _fitted(size, canvas)
  top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
  page = np.zeros((*canvas, 3), np.uint8)
  page[top:top + height, left:left + width] = _resize(image, height, width)
  px = grid.image_px
  tiles = page.reshape(canvas[0] // px, px, canvas[1] // px, px, 3)
  return np.concatenate([whole, tiles.swapaxes(1, 2).reshape(-1, px, px, 3)])


def best_canvas(size, pinpoints):
  """The canvas that keeps most of the image's pixels, then wastes fewest.

  size, canvases: (height, width); the first of equals wins.
  """
  def merit(canvas):
    scale = min(canvas[1] / size[1], canvas[0] / size[0])
    kept = int(size[1] * scale) * int(size[0] * scale)
    kept = min(kept, size[0] * size[1])
    return kept, kept - canvas[0] * canvas[1]
  return tuple(max(pinpoints, key=merit))


def n_crops(size, grid):
  """How many crops `crops` gives of an image of `size`."""
  if not grid.pinpoints:
    return 1
  height, width = best_canvas(size, grid.pinpoints)
  return 1 + height // grid.image_px * (width // grid.image_px)


def token_order(size, grid):
  """Which patch each visual token of an image is, int32 [n].

  Patches are counted through the crops, row by row; NEWLINE is the learned
  vector. A single crop gives its patches and one NEWLINE; with tiles, those of
  crop 0 come first, then the rows of the canvas that show the image, each
  with a NEWLINE at its end.
  """
  base = np.arange(grid.side ** 2, dtype=np.int32)
  if not grid.pinpoints:
    return np.append(base, np.int32(NEWLINE))
  rows, columns = (side // grid.image_px
                   for side in best_canvas(size, grid.pinpoints))
  if grid.transposed:
    rows, columns = columns, rows
  tiles = len(base) + np.arange(rows * columns * len(base), dtype=np.int32)
  tiles = tiles.reshape(rows, columns, grid.side, grid.side).swapaxes(1, 2)
  shown = _without_margins(
      tiles.reshape(rows * grid.side, columns * grid.side), size)
  newline = np.full((len(shown), 1), NEWLINE, np.int32)
  return np.concatenate([base, np.concatenate([shown, newline], 1).ravel()])


def _without_margins(tokens, size):
  """Cuts the rows or columns of a canvas [H, W] that show only its margin."""
  height, width = tokens.shape
  # Products of floats are rounded first: 7 * (8 / 7) is below 8.
  if size[1] / size[0] > width / height:
    kept = int(round(size[0] * (width / size[1]), 7))
    margin = (height - kept) // 2
    return tokens[margin:height - margin]
  kept = int(round(size[1] * (height / size[0]), 7))
  margin = (width - kept) // 2
  return tokens[:, margin:width - margin]


def _fitted(size, canvas):
  """(height, width) of an image scaled until it touches its canvas."""
  by_width, by_height = canvas[1] / size[1], canvas[0] / size[0]
  if by_width < by_height:
    return min(math.ceil(size[0] * by_width), canvas[0]), canvas[1]
  return canvas[0], min(math.ceil(size[1] * by_height), canvas[1])


def _resize(image, height, width):
  from PIL import Image
  if image.shape[:2] == (height, width):
    return image
  return np.asarray(Image.fromarray(image).resize(
      (width, height), Image.Resampling.BICUBIC))
