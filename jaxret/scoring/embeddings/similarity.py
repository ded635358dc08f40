"""Exact nearest neighbours by inner product, streamed over the candidates.

The candidates pass through in blocks that are split over all devices; what is
in memory is one block and its scores, however many candidates there are.
"""
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import ArrayLike

from jaxret import sharding

QUERY_ROWS = 1024  # queries at most that share one matrix of scores
BLOCK_NUMBERS = 1 << 26  # in that matrix, and in a block; 256 MiB each
_HIGHEST = jax.lax.Precision.HIGHEST  # TPUs and GPUs round float32 otherwise


class Rows(Protocol):
  """[C, D] that is read by slices: an array, a memory map, a store.Rows."""

  @property
  def shape(self) -> tuple[int | None, ...]: ...

  def __len__(self) -> int: ...

  def __getitem__(self, index: slice, /) -> Any: ...


@jax.jit
def similarity(a: ArrayLike, b: ArrayLike) -> jax.Array:
  """Inner products of all rows, float32 [A, B] from [A, D] and [B, D]."""
  return jnp.einsum('AD,BD->AB', jnp.asarray(a, jnp.float32),
                    jnp.asarray(b, jnp.float32), precision=_HIGHEST)


class Placed:
  """Candidates that stay on the devices from one search to the next.

  candidates: [C, D] as of `search`; kept as float32, split over the mesh. C * D
  numbers and a few percent more must fit in the memory of its devices.
  """

  def __init__(self, candidates: Rows, mesh: Mesh | None = None):
    self.mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
    n_rows, width = candidates.shape
    if not n_rows or not width:
      raise ValueError('search: there are no candidates')
    self.shape = int(n_rows), int(width)
    n_blocks = -(-n_rows * width // BLOCK_NUMBERS)
    self._block_rows = _evenly(-(-n_rows // n_blocks), self.mesh.devices.size)
    self._blocks = [
        (_place(self.mesh, np.asarray(block, np.float32)), n_valid)
        for block, n_valid in _blocks(
            candidates, self._block_rows, width, self.mesh.devices.size, False)]

  def __len__(self) -> int:
    return self.shape[0]

  def search(self, queries: ArrayLike, k: int,
             exclude: Sequence[ArrayLike] | None = None,
             keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k best for every query, as the function `search` finds them.

    keep: bool [C], of which alone candidates are found; None = all.
    """
    queries = np.asarray(queries, np.float32)
    _check(queries, k, exclude)
    if queries.shape[1] != self.shape[1]:
      raise ValueError(f'search: candidates have the shape {self.shape}, '
                       f'queries are {queries.shape[1]} wide; wanted '
                       f'[C, {queries.shape[1]}]')
    if keep is not None and (keep.dtype, keep.shape) != (bool, self.shape[:1]):
      raise ValueError(f'search: keep is {keep.dtype} {keep.shape}; wanted '
                       f'bool {self.shape[:1]}')
    most = max(1, min(QUERY_ROWS, BLOCK_NUMBERS // self._block_rows))
    n_tiles = -(-len(queries) // most)
    tiles = _tiles(queries, -(-len(queries) // n_tiles), exclude)
    states, n_candidates = _stream(self.mesh, k, tiles, self._blocks, keep)
    return _gathered(states, n_candidates, len(queries))


def search(
    queries: ArrayLike, candidates: Rows | Iterable[ArrayLike], k: int,
    mesh: Mesh | None = None, exclude: Sequence[ArrayLike] | None = None,
    block_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """The k candidates with the largest inner product, for every query.

  Exact: equal to sorting all scores, ties by the smaller index.

  Args:
    queries: [Q, D], any float type.
    candidates: [C, D], an array or a memory map, or an iterable of blocks
      [any, D] of it.
    k: how many to return.
    mesh: splits the candidates over all of its axes, while every device has
      all queries; default: the devices of this process.
    exclude: for each query an array of candidate indices never returned.
    block_rows: candidates in memory at a time; default: as many as
      BLOCK_NUMBERS allows, for them and for their scores.

  Returns:
    (scores float32 [Q, k], descending; indices int64 [Q, k]). Where there are
    fewer than k candidates the rest is -inf and -1.

  Errors: ValueError for widths that differ, for an index in `exclude` below 0
    and for numbers that are not finite; it names the query.
  """
  queries = np.asarray(queries, np.float32)
  _check(queries, k, exclude)
  mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
  n_tiles = -(-len(queries) // QUERY_ROWS)
  n_rows = -(-len(queries) // n_tiles)
  tiles = _tiles(queries, n_rows, exclude)
  block_rows = _rounded(
      block_rows or BLOCK_NUMBERS // max(n_rows, queries.shape[1]),
      mesh.devices.size, getattr(candidates, 'shape', (None,))[0])
  blocks = _blocks(
      candidates, block_rows, queries.shape[1], mesh.devices.size)
  states, n_candidates = _stream(mesh, k, tiles, blocks)
  return _gathered(states, n_candidates, len(queries))


def _stream(mesh, k, tiles, blocks, keep=None):
  """([best of each tile], number of candidates) of all blocks.

  keep: bool [C] or None, see Placed.search.
  """
  states = [(np.full((len(tile), k), -np.inf, np.float32),
             np.full((len(tile), k), -1, np.int32)) for tile, _ in tiles]
  placed = [sharding.replicate(mesh, tile) for tile, _ in tiles]
  start = 0
  for block, n_valid in blocks:
    if start + n_valid > np.iinfo(np.int32).max:
      raise ValueError(f'search: more than {np.iinfo(np.int32).max:,} '
                       'candidates; search them in parts')
    rows = _place(mesh, block)
    kept = None if keep is None else _place(mesh, np.pad(
        keep[start:start + n_valid], (0, len(block) - n_valid)))
    for t, (_, pairs) in enumerate(tiles):
      before = states[t]
      states[t] = _step(mesh, k, n_valid < len(block), placed[t], rows, before,
                        np.int32(start), np.int32(n_valid),
                        _pairs_in(pairs, start, n_valid), kept)
      # At most two blocks are under way, so that memory stays bounded.
      jax.block_until_ready(before)
    start += n_valid
  return states, start


def _check(queries, k, exclude):
  if queries.ndim != 2 or 0 in queries.shape or k < 1:
    raise ValueError(f'search: queries have the shape {queries.shape} and k is '
                     f'{k}; wanted [Q, D] and at least 1')
  if not np.isfinite(queries).all():
    row = np.flatnonzero(~np.isfinite(queries).all(1))[0]
    raise ValueError(f'search: query {row} holds a number that is not finite')
  if exclude is None:
    return
  if len(exclude) != len(queries):
    raise ValueError(f'search: `exclude` has {len(exclude)} entries for '
                     f'{len(queries)} queries; wanted one per query')
  for row, indices in enumerate(exclude):
    if len(indices) and np.min(indices) < 0:
      raise ValueError(f'search: query {row} excludes the index '
                       f'{np.min(indices)}; wanted 0 or more')


def _rounded(block_rows, n_shards, n_candidates):
  """A power of two of rows per device, so that chunks divide it.

  No more than all candidates need, where their number is known.
  """
  per_shard = max(64, block_rows // n_shards)
  per_shard = 1 << (per_shard.bit_length() - 1)
  if n_candidates is not None:
    needed = max(64, -(-n_candidates // n_shards))
    per_shard = min(per_shard, 1 << (needed - 1).bit_length())
  return per_shard * n_shards


def _evenly(n_rows, n_shards):
  """At least so many rows, each device's a multiple of a power of two.

  At most a sixteenth is padding; few sizes occur, and chunks divide them.
  """
  per_shard = max(64, -(-n_rows // n_shards))
  step = max(64, 1 << max(0, per_shard.bit_length() - 5))
  return -(-per_shard // step) * step * n_shards


def _tiles(queries, n_rows, exclude):
  """[(queries [n_rows, D], (rows, indices) of what they exclude)].

  The last tile is filled up with zeros; the indices are sorted.
  """
  tiles = []
  for first in range(0, len(queries), n_rows):
    tile = queries[first:first + n_rows]
    rows = columns = np.zeros(0, np.int64)
    if exclude is not None:
      own = exclude[first:first + n_rows]
      rows = np.repeat(np.arange(len(own)), [len(i) for i in own])
      columns = np.concatenate([np.asarray(i, np.int64) for i in own])
      order = np.argsort(columns, kind='stable')
      rows, columns = rows[order], columns[order]
    tile = np.pad(tile, ((0, n_rows - len(tile)), (0, 0)))
    tiles.append((tile, (rows, columns)))
  return tiles


def _blocks(candidates, block_rows, width, n_shards, shorter=True):
  """Yields (block [block_rows, D], how many of its rows are real).

  shorter: the last one may have fewer rows, so that little of it is padding.
  """
  if hasattr(candidates, 'shape'):
    parts = (candidates[i:i + block_rows]
             for i in range(0, len(candidates), block_rows))
  else:
    parts = _regrouped(candidates, block_rows)
  for part in parts:
    if part.ndim != 2 or part.shape[1] != width:
      raise ValueError(f'search: candidates have the shape {part.shape}, '
                       f'queries are {width} wide; wanted [C, {width}]')
    n_valid = len(part)
    if n_valid < block_rows:
      n_rows = (_rounded(block_rows, n_shards, n_valid) if shorter
                else block_rows)
      part = np.pad(part, ((0, n_rows - n_valid), (0, 0)))
    yield part, n_valid


def _regrouped(parts, block_rows):
  """The rows of blocks of any length, `block_rows` at a time."""
  waiting, n_waiting = [], 0
  for part in itertools.chain(parts, [None]):
    if part is not None:
      waiting.append(np.asarray(part))
      n_waiting += len(part)
    while n_waiting >= block_rows or (part is None and n_waiting):
      rows = np.concatenate(waiting)
      yield rows[:block_rows]
      waiting = [rows[block_rows:]]
      n_waiting = len(waiting[0])


def _place(mesh, block):
  placement = NamedSharding(mesh, P(mesh.axis_names))
  if isinstance(block, jax.Array):
    return jax.device_put(block, placement)
  return jax.make_array_from_callback(
      block.shape, placement, lambda index: block[index])


def _pairs_in(pairs, start, n_valid):
  """The excluded (row, place in the block), int32 [2, n], padded with -1.

  n is a power of two, so that few shapes occur.
  """
  rows, columns = pairs
  first, last = np.searchsorted(columns, [start, start + n_valid])
  n_pairs = last - first
  padded = 1 << max(0, int(n_pairs - 1).bit_length()) if n_pairs else 0
  result = np.full((2, padded), -1, np.int32)
  result[0, :n_pairs] = rows[first:last]
  result[1, :n_pairs] = columns[first:last] - start
  return result


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(mesh, k, is_short, queries, block, state, start, n_valid, pairs,
          kept=None):
  """The best k of `state` and of one block, ([Q, k], [Q, k]).

  is_short: whether rows from `n_valid` on are padding. kept: bool [rows] of
  those that may be found; None = all.
  """
  axes = mesh.axis_names
  local = jax.shard_map(
      functools.partial(_local_top, axes, k, is_short), mesh=mesh,
      in_specs=(P(), P(axes), P(), P(), P(axes)),
      out_specs=(P(None, axes),) * 2)
  scores, places = local(queries, block, n_valid, pairs, kept)
  # In the order of the candidates: top_k then keeps the smaller index.
  scores = jnp.concatenate([state[0], scores], 1)
  indices = jnp.concatenate(
      [state[1], jnp.where(jnp.isneginf(scores[:, k:]), -1, places + start)], 1)
  best, order = jax.lax.top_k(scores, k)
  result = best, jnp.take_along_axis(indices, order, 1)
  return jax.lax.with_sharding_constraint(
      result, sharding.replicated(mesh))


def _local_top(axes, k, is_short, queries, rows, n_valid, pairs, kept):
  """The best of one device's rows: scores, places in the block, [Q, <= k].

  Sorting every score is what makes a plain top_k slow. Of chunks of scores
  only the k with the largest maxima can hold one of the best k; among equal
  maxima these are the first chunks, since they hold the smaller indices.
  """
  n_rows = len(rows)
  first = jax.lax.axis_index(axes) * n_rows
  scores = similarity(queries, rows)
  places = jnp.where((pairs[1] >= first) & (pairs[1] < first + n_rows),
                     pairs[1] - first, n_rows)  # n_rows: dropped
  scores = scores.at[pairs[0], places].set(-jnp.inf, mode='drop')
  if is_short:
    scores = jnp.where(jnp.arange(n_rows) < n_valid - first, scores, -jnp.inf)
  if kept is not None:
    scores = jnp.where(kept, scores, -jnp.inf)
  size = _chunk_size(n_rows, k)
  chunks = scores.reshape(len(queries), n_rows // size, size)
  _, chosen = jax.lax.top_k(chunks.max(2), min(k, n_rows // size))
  chosen = jnp.sort(chosen, 1)
  kept = jax.vmap(lambda chunk, index: chunk[index])(chunks, chosen)
  best, place = jax.lax.top_k(kept.reshape(len(queries), -1), min(k, n_rows))
  chunk = jnp.take_along_axis(chosen, place // size, 1)
  return best, first + chunk * size + place % size


def _chunk_size(n_rows, k):
  """The power of two for which maxima and kept scores are fewest together."""
  wanted = max(1, round((n_rows / k) ** 0.5))
  return min(1 << (wanted - 1).bit_length(), n_rows & -n_rows)


def _gathered(states, n_candidates, n_queries):
  """The tiles' results as one, on the host, checked."""
  if not n_candidates:
    raise ValueError('search: there are no candidates')
  states = sharding.to_host(states)
  scores, indices = (np.concatenate(parts)[:n_queries]
                     for parts in zip(*states))
  wrong = np.argwhere(np.isnan(scores) | np.isposinf(scores))
  if wrong.size:
    row, column = wrong[0]
    raise ValueError(
        f'search: candidate {indices[row, column]} holds a number that is not '
        f'finite, or its score with query {row} overflows')
  return scores, indices.astype(np.int64)
