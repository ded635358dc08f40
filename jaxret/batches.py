"""Which items are embedded together, so that few shapes are compiled.

A shape is a bucket, which items are padded to, by a number of rows. Of what is
computed at most a quarter is padding of rows, or of items beyond their bucket.
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Bucket = tuple[int, ...]


def planned(waiting: Mapping[Bucket, Sequence[Any]], most: int, shards: int,
            often: bool) -> Iterator[tuple[Bucket, int, Sequence[Any]]]:
  """Yields (bucket, rows, group) of groups that are less than full batches.

  often: for calls that come again and again with another number of items, as
  queries do: numbers of rows are powers of two, so that there are few shapes in
  all. Else there are few in this call.
  """
  rows = doubled_rows if often else padded_rows
  for bucket, group in (waiting.items() if often else
                        joined(waiting, most, shards)):
    for part in parts(group, shards, rows):
      yield bucket, rows(len(part), shards), part


def joined(waiting: Mapping[Bucket, Sequence[Any]], most: int, shards: int
           ) -> Iterator[tuple[Bucket, list[Any]]]:
  """Yields (bucket, group) of groups that are less than full batches.

  A group that fits in another one's batch is padded as that one is: where their
  buckets differ in one number alone, and in that number at most a quarter of
  the joint batch is padding, its rows included. What has none of something (0)
  is not padded with it: that is another program.

  waiting: {bucket: group}; most: rows of a batch; shards: see `padded_rows`.
  """
  left = sorted(waiting.items(), reverse=True)
  while left:
    (bucket, first), *others = left
    group, axis, needed, left = list(first), None, 0, []
    for other, more in others:
      differs = [d for d, size in enumerate(bucket) if size != other[d]]
      d, count = differs[0], len(group) + len(more)
      own = (needed or len(group) * bucket[d]) + len(more) * other[d]
      if (len(differs) == 1 and other[d] and axis in (None, d)
          and count <= most
          and 4 * own >= 3 * padded_rows(count, shards) * bucket[d]):
        group, axis, needed = group + list(more), d, own
      else:
        left.append((other, more))
    yield bucket, group


def parts(group: Sequence[Any], shards: int,
          rows: Callable[[int, int], int]) -> Iterator[Sequence[Any]]:
  """Cuts a group so that at most a quarter of the rows are padding."""
  while group:
    size = rows(len(group), shards)
    if size > shards and 4 * len(group) < 3 * size:
      size -= shards
      while rows(size, shards) != size:
        size -= shards
    yield group[:size]
    group = group[size:]


def padded_rows(count: int, shards: int) -> int:
  """The rows of a batch of `count`: the fewest that hold it, of 1, 2, 3, 4, 6,
  8, 12, 16, ... times `shards`."""
  whole = 2 ** (-(-count // shards) - 1).bit_length()
  three_quarters = 3 * whole // 4 * shards
  return three_quarters if whole > 2 and three_quarters >= count else (
      whole * shards)


def doubled_rows(count: int, shards: int) -> int:
  """The same of 1, 2, 4, 8, ... times `shards`."""
  return 2 ** (-(-count // shards) - 1).bit_length() * shards
