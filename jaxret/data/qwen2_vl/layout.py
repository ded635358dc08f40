"""Where patches, visual tokens and positions go: index work on the host.

A grid (t, h, w) counts the patches of one image (t = 1) or video: t temporal
slices of h rows and w columns, h and w multiples of the merge M. M x M
neighbouring patches follow each other and make one token, so a medium gives
t * h * w / M ** 2 tokens. The patches of an item lie in S rows of P: a slice
never spans two rows, and several small ones may share a row.
"""
import functools
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
  """How a backbone lays out what it sees; the defaults are Qwen2-VL's.

  merge: M. window: the side of Qwen2.5-VL's windows in tokens, 0 = none. The
  patches of one follow each other then. temporal_patch: frames of a temporal
  slice. tokens_per_second: by how much the positions of a video grow in a
  second; None = by one from slice to slice. patch_px: the side of a patch.
  """
  merge: int = 2
  window: int = 0
  temporal_patch: int = 2
  tokens_per_second: float | None = None
  patch_px: int = 14

  def steps(self, sampled):
    """(seconds of a slice, positions in a second) of each medium, or ().

    sampled: the seen.Sampled of each, None of images.
    """
    if self.tokens_per_second is None:
      return ()
    return tuple(
        (1, 1) if one is None else (
            self.temporal_patch / one.rate, self.tokens_per_second)
        for one in sampled)


QWEN2_VL = Layout()


class Rows(NamedTuple):
  """How patches lie in the S rows of an item.

  segments: int32 [S, P], the number of the slice from 1, 0 for padding.
  coordinates: int32 [S, P, 2], row and column of each patch in its slice.
  patch_index: int64 [N], where the patches lie in the flat S * P, in order.
  """
  segments: np.ndarray
  coordinates: np.ndarray
  patch_index: np.ndarray


def slices(grids):
  """How many patches each temporal slice of the grids has, in order."""
  return [int(h * w) for t, h, w in grids for _ in range(int(t))]


def n_tokens(grid, merge=2):
  t, h, w = (int(n) for n in grid)
  return t * h * w // merge ** 2


def fill(sizes, row_patches):
  """First fit: (row, column) of each slice in rows of `row_patches` patches.

  Returns (list of pairs, number of rows). Raises ValueError for a slice that
  no row holds.
  """
  free, places = [], []
  for size in sizes:
    if size > row_patches:
      raise ValueError(f'a slice of {size} patches does not fit a row of '
                       f'{row_patches}')
    row = next((i for i, left in enumerate(free) if left >= size), len(free))
    if row == len(free):
      free.append(row_patches)
    places.append((row, row_patches - free[row]))
    free[row] -= size
  return places, len(free)


def block_coordinates(h, w, merge=2):
  """(row, column) of the patches of one slice in their order, [h * w, 2]."""
  rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing='ij')
  grid = np.stack([rows, columns], -1).astype(np.int32)
  grid = grid.reshape(h // merge, merge, w // merge, merge, 2)
  return grid.swapaxes(1, 2).reshape(-1, 2)


@functools.lru_cache(maxsize=1024)
def window_order(h, w, window, merge=2):
  """Which patch comes when the windows of a slice follow each other, [h * w].

  window: their side in tokens; those at the right and lower edge are smaller.
  Within one the order is that of the slice, and so is that of windows.
  """
  rows, columns = np.meshgrid(np.arange(h // merge), np.arange(w // merge),
                              indexing='ij')
  tokens = np.lexsort([part.ravel() for part in (
      columns, rows, columns // window, rows // window)])
  order = tokens[:, None] * merge ** 2 + np.arange(merge ** 2)
  order.flags.writeable = False
  return order.ravel()


@functools.lru_cache(maxsize=1024)
def _slice(h, w, window, merge):
  """(coordinates of a slice's patches as they lie, [h * w, 2]; where each one
  lies, [h * w]), read-only: most slices have the size of others."""
  order = window_order(h, w, window, merge) if window else np.arange(h * w)
  found = block_coordinates(h, w, merge)[order], np.argsort(order)
  for array in found:
    array.flags.writeable = False
  return found


def lay_out(grids, n_rows, row_patches, merge=2, window=0):
  """The Rows of an item's grids; see Layout.

  Raises ValueError where they do not fit.
  """
  sizes = slices(grids)
  places, used = fill(sizes, row_patches)
  if used > n_rows:
    raise ValueError(f'{len(sizes)} slices take {used} rows of {row_patches} '
                     f'patches, there are {n_rows}')
  segments = np.zeros(n_rows * row_patches, np.int32)
  coordinates = np.zeros((n_rows * row_patches, 2), np.int32)
  shapes = [(int(h), int(w)) for t, h, w in grids for _ in range(int(t))]
  indices = []
  for number, ((row, column), (h, w)) in enumerate(zip(places, shapes), 1):
    first = row * row_patches + column
    segments[first:first + h * w] = number
    own, places_of = _slice(h, w, window, merge)
    coordinates[first:first + h * w] = own
    indices.append(first + places_of)
  index = np.concatenate(indices) if indices else np.zeros(0, np.int64)
  return Rows(segments.reshape(n_rows, row_patches),
              coordinates.reshape(n_rows, row_patches, 2), index)


def visual_index(tokens, kinds, grids, patch_index, special, name, merge=2):
  """Which visual token each token of an item shows, -1 for text.

  Args:
    tokens: int [T], media expanded: one placeholder per visual token.
    kinds: 'image' or 'video' of each grid.
    grids: int [M, 3], the grids in the order of `patch_index`.
    patch_index: see Rows; merged tokens lie at a `merge ** 2`-th of it.
    special: {'image': id, 'video': id} of the placeholders.
    name: of the item, for the message.
    merge: M.

  Returns:
    int32 [T]; the images' tokens go to the image placeholders in order, the
    videos' to those of video.

  Raises:
    ValueError: where there are more or fewer placeholders than visual tokens.
  """
  ends = np.cumsum([n_tokens(grid, merge) for grid in grids])
  merged = patch_index[::merge ** 2] // merge ** 2
  parts = np.split(merged, ends[:-1]) if len(grids) else []
  index = np.full(len(tokens), -1, np.int32)
  for kind in ('image', 'video'):
    mine = [part for part, its in zip(parts, kinds) if its == kind]
    mine = np.concatenate(mine) if mine else np.zeros(0, np.int64)
    places = np.asarray(tokens) == special[kind]
    if places.sum() != len(mine):
      raise ValueError(
          f'{name}: {places.sum()} placeholder tokens for {len(mine)} visual '
          f'tokens of its {kind}s; want one each: give the text as many '
          f'<|{kind.upper()}|> marks as there are {kind}s')
    order = np.cumsum(places) - 1
    index[places] = mine[order[places]]
  return index


def mrope_positions(tokens, kinds, grids, special, merge=2, steps=()):
  """Positions on the axes time, row and column, int32 [3, T].

  The rule of the original Qwen2-VL: text advances all axes by one; the tokens
  of a medium stand at (t, row, column) from there; what follows goes on after
  the largest of these. (Newer versions of transformers go on after the larger
  side alone, which differs for long videos.) Qwen2.5-VL's t is in time: the
  integer below slice * seconds * tokens per second, in float32 as its authors
  compute it. steps: the last two of each medium; () = 1 and 1. See
  `visual_index`.
  """
  tokens = np.asarray(tokens)
  queues = {special[kind]: [
      one for one, its in zip(zip(grids, steps or [(1, 1)] * len(grids)), kinds)
      if its == kind] for kind in ('image', 'video')}
  parts, at, place = [], 0, 0
  while place < len(tokens):
    queue = queues.get(int(tokens[place]))
    if queue:
      (t, h, w), (seconds, rate) = queue.pop(0)
      block = np.indices((t, h // merge, w // merge)).reshape(3, -1)
      block[0] = block[0].astype(np.float32) * np.float32(
          seconds) * np.float32(rate)
    else:
      visual = np.isin(tokens[place:], list(queues))
      length = int(np.argmax(visual)) if visual.any() else len(visual)
      block = np.broadcast_to(np.arange(max(length, 1)), (3, max(length, 1)))
    parts.append(at + block)
    at += int(block.max()) + 1
    place += block.shape[1]
  return np.concatenate(parts, 1).astype(np.int32)
