"""Suffixes of queries, packed into rows of one size: what is read at a time.

A row holds suffixes of one query, behind each other without padding between
them; R rows are a tile. Sizes are of few steps, so that few are compiled.
"""
from typing import NamedTuple

import numpy as np

STEPS = 4  # sizes of rows per octave
LEAST = 16  # tokens of the smallest class


class Tile(NamedTuple):
  """R rows of at most M tokens, of suffixes of at most L tokens each.

  queries: int [R]. suffixes: R tuples of numbers. real: how many of the rows
  count; the others repeat the last one. tokens: M; length: L.
  """
  queries: np.ndarray
  suffixes: tuple[tuple[int, ...], ...]
  real: int
  tokens: int
  length: int

  @property
  def chains(self):
    """C, how many suffixes a row has room for: all are over L / 2 tokens."""
    return 2 * self.tokens // self.length


class Layout(NamedTuple):
  """How the suffixes of a tile lie.

  index int [R, C, L], place int [R, M]: as models.decoder.Chains has them.
  end int [R, C]: the last token of each; 0 where there is none.
  at: for each row the first token of each of its suffixes.
  """
  index: np.ndarray
  place: np.ndarray
  end: np.ndarray
  at: tuple[tuple[int, ...], ...]


def length_class(length):
  """The power of two that a suffix of this length is read with."""
  return max(LEAST, _power(length))


def plan(wanted, lengths, tile_tokens, shards=1):
  """The Tiles that hold all that is wanted.

  Args:
    wanted: for each of Q queries the numbers of its suffixes, each once.
    lengths: tokens of each suffix.
    tile_tokens: of a row, at most, or as many as its longest suffix has; and
      of all rows of a device.
    shards: devices among which rows are split.
  """
  found = []
  classes = sorted({length_class(lengths[s]) for own in wanted for s in own})
  for length in classes:
    lists = {}
    for query, own in enumerate(wanted):
      members = sorted(s for s in own if length_class(lengths[s]) == length)
      if members:
        lists[query] = members
    parts = -(-shards // len(lists))  # rows that each query gives at least
    size = _size(lists.values(), lengths, length, tile_tokens, parts)
    rows = [(query, row) for query, own in lists.items()
            for row in _filled(own, lengths, size, 2 * size // length)]
    rows.sort(key=lambda row: row[1])  # rows that are alike follow each other
    most_rows = shards * max(1, tile_tokens // size)
    for first in range(0, len(rows), most_rows):
      found.append(_tile(rows[first:first + most_rows], size, length, shards))
  return found


def _size(lists, lengths, length, tile_tokens, parts):
  """Tokens of the rows that hold lists of one class, each in `parts` or more.
  """
  tokens = max(max(sum(lengths[s] for s in own), len(own) * length // 2)
               for own in lists)
  if 2 * tokens <= parts * tile_tokens:
    return max(length, rounded(
        tokens if parts == 1 else -(-tokens // parts) + length))
  most = max(length, rounded(tile_tokens))
  sizes = {max(length, rounded(most * part // (2 * STEPS)))
           for part in range(STEPS, 2 * STEPS + 1)}
  def read(size):
    return sum(size * len(_filled(own, lengths, size, 2 * size // length))
               for own in lists)
  return min(sorted(sizes, reverse=True), key=read)


def _tile(rows, size, length, shards):
  count = shards * _power(-(-len(rows) // shards))
  filled = rows + rows[-1:] * (count - len(rows))
  return Tile(np.array([query for query, _ in filled], np.int32),
              tuple(row for _, row in filled), len(rows), size, length)


def _filled(numbers, lengths, size, most):
  """Tuples of numbers, of at most `size` tokens and `most` suffixes each.

  Each goes, the longest first, to the first that has room.
  """
  rows, used = [], []
  for number in sorted(numbers, key=lambda s: -lengths[s]):
    row = next((r for r, own in enumerate(rows)
                if used[r] + lengths[number] <= size and len(own) < most),
               len(rows))
    if row == len(rows):
      rows.append([])
      used.append(0)
    rows[row].append(number)
    used[row] += lengths[number]
  return [tuple(row) for row in rows]


def lay_out(tile, lengths):
  """The Layout of a Tile."""
  rows, chains = len(tile.suffixes), tile.chains
  index = np.zeros((rows, chains, tile.length), np.int32)
  place = np.zeros((rows, tile.tokens), np.int32)
  end, at = np.zeros((rows, chains), np.int32), []
  for row, suffixes in enumerate(tile.suffixes):
    first, starts = 0, []
    for chain, suffix in enumerate(suffixes):
      count = lengths[suffix]
      index[row, chain, :count] = first + np.arange(count)
      place[row, first:first + count] = chain * tile.length + np.arange(count)
      end[row, chain] = first + count - 1
      starts.append(first)
      first += count
    at.append(tuple(starts))
  return Layout(index, place, end, tuple(at))


def rounded(number, steps=STEPS):
  """The next size up of few per octave."""
  step = max(1, _power(number) // (2 * steps))
  return -(-number // step) * step


def _power(number):
  return 1 << max(int(number) - 1, 0).bit_length()
