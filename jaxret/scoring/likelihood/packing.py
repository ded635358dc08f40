"""How a score matrix is laid out on the device: strips of rows, and tiles.

Where all pairs are scored, a strip's tiles are the same for all of its rows.
Where a few columns of each row are kept, others for each, they are packed: a
row's kept columns, from all over the matrix, lie side by side, longest first,
and rows that keep about as many are computed together.
"""
import functools
from typing import NamedTuple

import numpy as np

from jaxret.scoring.likelihood import tiles, tries


class Tile(NamedTuple):
  """C suffixes after each row of a strip.

  columns: int [C]; packed, int [n, C], each row's own, and the rest is set.
  real: bool [n, C], the kept pairs; the others are computed, but not read.
  sizes: int [C], the input tokens that a place has room for; longest, total:
  the most and the sum of them, padded so that few shapes occur.
  width: how many columns are computed, the surplus is thrown away; 0 = these.
  """
  columns: np.ndarray
  real: np.ndarray | None = None
  sizes: np.ndarray | None = None
  longest: int = 0
  total: int = 0
  width: int = 0


class Strip(NamedTuple):
  """Rows whose prefixes are encoded together, and the tiles that follow.

  rows: int [n], one may be there twice; size: how many are computed, the
  surplus is thrown away; length: what their prefixes are padded to.
  """
  rows: np.ndarray
  size: int
  length: int
  tiles: tuple[Tile, ...]

  @property
  def tokens(self):
    """Of prefixes and packed suffixes, padding included."""
    return self.size * (self.length + sum(tile.total for tile in self.tiles))

  @property
  def padded(self):
    """int [size], the rows that are computed."""
    return tiles.fill(self.rows, self.size)

  def columns(self, tile):
    """int [1, C] for all rows, or [size, C] as `padded` repeats rows."""
    if tile.real is None:
      return tiles.fill(tile.columns, tile.width or len(tile.columns))[None]
    return tile.columns[tiles.fill(np.arange(len(self.rows)), self.size)]


class Limits(NamedTuple):
  """rows x columns of a tile at most; rows are a multiple of `multiple`.

  max_padding: see `pack`. fixed: all tiles have these sizes, and prefixes are
  padded as tiles.fixed_blocks has it.
  """
  rows: int
  columns: int
  max_padding: float
  multiple: int
  fixed: bool = False


def grid(prefixes, columns_of, limits):
  """Strips of all rows, in order of length, with the same tiles for each.

  prefixes: int [R], tokens of the rows' prefixes; columns_of: int arrays.
  """
  if limits.fixed:
    shared = tuple(Tile(columns, width=limits.columns)
                   for columns in columns_of)
    return [Strip(block.index, limits.rows, block.length, shared)
            for block in tiles.fixed_blocks(
                prefixes, limits.rows, tiles.FIXED_PREFIX_STEP)]
  blocks = tiles.blocks(
      prefixes, limits.rows, limits.max_padding, limits.multiple)
  sizes = {}
  for block in blocks:
    sizes[block.length] = max(sizes.get(block.length, 0), len(block.index))
  shared = tuple(Tile(columns) for columns in columns_of)
  return [Strip(block.index,
                -(-sizes[block.length] // limits.multiple) * limits.multiple,
                block.length, shared) for block in blocks]


def pack(keep, sizes, prefixes, limits):
  """Strips in which each kept pair is once; which ones depends on keep alone.

  Rows are sorted by how many columns they keep. A row that keeps many is cut
  into pieces, each with a prefix of its own, where that is fewer tokens.
  Places hold the longest suffix that a row of the strip has there. Tiles have
  as many tokens as one of a few sizes, which pad `max_padding` of the tokens
  at most; so do prefixes. Their shapes are therefore few.

  Args:
    keep: bool [R, C].
    sizes: int [C], input tokens of the columns' suffixes, one at least.
    prefixes: int [R], tokens of the rows' prefixes.
    limits: Limits.

  Returns:
    list of Strip; rows that keep nothing are in none.
  """
  own = [_longest_first(row, sizes) for row in keep]
  widest = max(map(len, own), default=0)
  if not widest:
    return []
  pieces = [8 << i for i in range(max(0, (widest - 1) // 8).bit_length())]
  laid_out = functools.partial(_strips, own, np.asarray(sizes),
                               np.asarray(prefixes), limits)
  return min((laid_out(piece) for piece in (*pieces, widest)),
             key=lambda strips: sum(strip.tokens for strip in strips))


def _longest_first(kept, sizes):
  """int [n]: a row's kept columns."""
  columns = np.flatnonzero(kept)
  return columns[np.argsort(-sizes[columns], kind='stable')]


def _strips(own, sizes, prefixes, limits, piece):
  """The strips of rows of columns `own`, cut into pieces of a size at most."""
  parts = [(row, part) for row, columns in enumerate(own) if len(columns)
           for part in np.array_split(columns, -(-len(columns) // piece))]
  rows = np.array([row for row, _ in parts])
  counts = np.array([len(part) for _, part in parts])
  tokens = np.array([sizes[part].sum() for _, part in parts])
  # A padded prefix is weighed against all tokens of its row.
  caps = tiles.buckets(prefixes[rows], limits.max_padding * (
      1 + tokens.sum() / prefixes[rows].sum()))
  bucket = np.searchsorted(caps, prefixes[rows])
  order = np.lexsort((-tokens, -counts, -bucket))
  size = -(-len(order) // -(-len(order) // limits.rows))
  size = -(-size // limits.multiple) * limits.multiple
  blocks = [order[i:i + size] for i in range(0, len(order), size)]
  laid = [_tiles([parts[i][1] for i in block], sizes, limits.columns)
          for block in blocks]
  laid = _evened(laid, sizes, limits.max_padding)
  return [Strip(rows[block], size, caps[bucket[block].max()], tuple(found))
          for block, found in zip(blocks, laid)]


def _tiles(parts, sizes, columns):
  """Tiles of n rows' columns, with no more places than needed."""
  width = max(map(len, parts))
  index = np.stack([np.resize(part, width) for part in parts])
  real = np.arange(width) < np.array([len(part) for part in parts])[:, None]
  room = np.where(real, sizes[index], 0).max(0)
  found = []
  for begin, end in _cuts(room, columns):
    cut = slice(begin, end)
    found.append(Tile(index[:, cut], real[:, cut], room[cut],
                      int(room[begin]), int(room[cut].sum())))
  return found


def _cuts(room, columns):
  """[(first, after last)] of tiles: places that have room for about as much.

  A tile's chains, all as long as its longest, hold at most twice its tokens.
  """
  even = -(-len(room) // -(-len(room) // columns))
  cuts, begin = [], 0
  for end in range(1, len(room)):
    count = end + 1 - begin
    if count > even or room[begin] * count > 2 * room[begin:end + 1].sum():
      cuts.append((begin, end))
      begin = end
  return [*cuts, (begin, len(room))]


def _evened(laid, sizes, max_padding):
  """The lists of tiles, padded to a few shapes."""
  every = [tile for found in laid for tile in found]
  # Clips: every video has as many, so that places are rounded, not tokens.
  step = int(np.gcd.reduce(sizes))
  totals = np.array([step * _rounded(tile.total // step) for tile in every])
  longest = np.array([tile.longest for tile in every])
  total_caps = tiles.buckets(totals, max_padding)
  longest_caps = tiles.buckets(longest, tries.CHAIN_PADDING)
  shape_of = list(zip(np.searchsorted(total_caps, totals).tolist(),
                      np.searchsorted(longest_caps, longest).tolist()))
  widths = {}
  for tile, shape in zip(every, shape_of):
    widths[shape] = max(
        widths.get(shape, 0), _rounded(tile.columns.shape[1]))
  padded = iter([
      _padded(tile, sizes, widths[total, chain], longest_caps[chain],
              total_caps[total])
      for tile, (total, chain) in zip(every, shape_of)])
  return [[next(padded) for _ in found] for found in laid]


def _padded(tile, sizes, width, longest, total):
  """More places, and a column that fits for every pair that is not kept."""
  more = (0, width - tile.columns.shape[1])
  real = np.pad(tile.real, ((0, 0), more))
  own = tile.columns[tile.real]
  columns = np.where(real, np.pad(tile.columns, ((0, 0), more)),
                     own[np.argmin(sizes[own])])
  return Tile(columns, real, np.pad(tile.sizes, more), longest, total)


def _rounded(count):
  """Up to a power of two, from 8 on to a multiple of 8."""
  return 1 << int(count - 1).bit_length() if count <= 8 else -(-count // 8) * 8
