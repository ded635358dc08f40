"""Ranks under many weights at once: what a sweep over weights asks for.

A sweep needs no score matrix of its own for each of its weights, only how many
candidates reach the best relevant one. Rows are read once for all weights, and
each of them is combined as cpn does it, to the last bit: where there are many
by `compiled_ranks`, else, or where scores are no plain numbers, in NumPy.
Blocks are small enough for the caches of a core, and are spread over the
threads of this process.
"""
from concurrent import futures
from typing import NamedTuple

import numpy as np

from jaxret import by_rows
from jaxret.scoring.likelihood import compiled_ranks
from jaxret.scoring.likelihood.compiled_ranks import LEFT_OUT, PARTS

_READ_CELLS = 1 << 22  # whole lines of a transposed memory map
_BLOCK_CELLS = 1 << 16
_LARGE = 1e18  # below it no product or sum overflows, so that none is NaN


def ranks(direction, weights, relevant):
  """1-based ranks of the best relevant candidate under each of the weights.

  The score of a pair is d * (c * query + (1 - c) * (candidate - alpha *
  prior)) + (1 - d) * first stage, of the parts that there are; see cpn. Ties
  count against us, as metrics.ranks has them.

  Args:
    direction: a cpn.Direction of Q queries and C candidates; its matrices may
      be memory maps, of which little is in memory at a time.
    weights: W of cpn.Weights.
    relevant: Q arrays of candidate indices, at least one each.

  Returns:
    int64 [W, Q].

  Raises:
    ValueError: for a score that is NaN, a query without a relevant candidate,
      or one that there is not.
  """
  n_candidates = max(m.shape[1] for m in direction if m is not None)
  answers = _padded(relevant, n_candidates)
  size = min(len(relevant), max(1, _BLOCK_CELLS // n_candidates))
  compiled = compiled_ranks.pays(
      len(weights) * len(relevant) * n_candidates) and size
  n_read = size * max(1, _READ_CELLS // (size * n_candidates))
  found = []
  with futures.ThreadPoolExecutor(by_rows.N_THREADS) as pool:
    for first in range(0, len(relevant), n_read):
      rows = slice(first, min(first + n_read, len(relevant)))
      parts = _read(direction, rows)
      found += pool.map(
          lambda block, parts=parts: _block_ranks(
              parts, weights, *block, compiled),
          _blocks(answers, rows, size))
  return np.concatenate(found, 1)


class _Answers(NamedTuple):
  """index: int [Q, R], candidates; known: bool [Q, R], where there is one."""
  index: np.ndarray
  known: np.ndarray


def _padded(relevant, n_candidates):
  """_Answers, each once."""
  relevant = [np.unique(np.asarray(wanted, np.int64)) for wanted in relevant]
  index = np.zeros((len(relevant), max(map(len, relevant))), np.int64)
  known = np.zeros(index.shape, bool)
  for q, wanted in enumerate(relevant):
    if not len(wanted) or wanted[0] < 0 or wanted[-1] >= n_candidates:
      raise ValueError(f'query {q} has the relevant candidates '
                       f'{wanted.tolist()[:3]}; want one at least, of '
                       f'{n_candidates}')
    index[q, :len(wanted)], known[q, :len(wanted)] = wanted, True
  return _Answers(index, known)


def _read(direction, rows):
  """{name: float32 [q, C], or [1, C] that holds for all rows, or None}.

  Pairs that were left out, which have no score, are 0 in all of them.
  """
  keep = direction.keep
  parts = {'keep': None if keep is None else np.ascontiguousarray(keep[rows])}
  for name in PARTS:
    part = getattr(direction, name)
    if part is not None:
      part = np.ascontiguousarray(
          part if len(part) == 1 else part[rows], np.float32)
      if keep is not None and len(part) > 1:
        part = np.where(parts['keep'], part, np.float32(0))
    parts[name] = part
  return parts


def _blocks(answers, rows, size):
  """Yields (rows, the same from the first one read on, _Answers) of blocks."""
  for start in range(rows.start, rows.stop, size):
    block = slice(start, min(start + size, rows.stop))
    yield (block, slice(block.start - rows.start, block.stop - rows.start),
           _Answers(*(part[block] for part in answers)))


def _block_ranks(parts, weights, rows, read_rows, answers, compiled):
  """int64 [W, b] of a block, see _blocks; parts: as _read returns them.

  compiled: for how many rows the program is, 0 = there is none.
  """
  parts = {name: part if part is None or len(part) == 1 else part[read_rows]
           for name, part in parts.items()}
  if compiled and compiled_ranks.fits(parts, weights):
    return compiled_ranks.block_ranks(parts, weights, *answers, compiled)
  shape = len(answers.index), max(
      part.shape[1] for part in parts.values() if part is not None)
  combine, of_answers = _Combination(parts, shape), _Combination(
      {name: part if part is None else np.take_along_axis(
          np.broadcast_to(part, shape), answers.index, 1)
       for name, part in parts.items()}, answers.index.shape)
  found, reached = np.empty((len(weights), shape[0]), np.int64), np.empty(
      shape, bool)
  may_be_nan = not _is_small(parts, weights)
  # Those of the same c come one after the other, see _Combination.
  with np.errstate(invalid='ignore', over='ignore'):
    for place in sorted(range(len(weights)), key=lambda w: weights[w].c):
      scores = combine(weights[place])
      if may_be_nan and np.isnan(scores).any():
        bad = rows.start + int(np.argmax(np.isnan(scores).any(1)))
        raise ValueError(f'a score of query {bad} is NaN: check the scores '
                         'that it is made of')
      # Rounded as those of the rows are: NumPy fuses no products and sums.
      values = np.where(answers.known, of_answers(weights[place]), -np.inf)
      best = values.max(1, keepdims=True)
      np.greater_equal(scores, best, out=reached)
      found[place] = 1 - (answers.known & (values == best)).sum(1) + [
          np.count_nonzero(row) for row in reached]
  return found


def _is_small(parts, weights):
  """Whether no score of these parts can be NaN."""
  numbers = [parts[name] for name in PARTS if parts[name] is not None]
  return np.abs(weights).max() < 1e3 and all(
      part.min() > -_LARGE and part.max() < _LARGE for part in numbers)


class _Combination:
  """The scores [b, C] of a block under weights, or [1, C], in cpn's own order.

  What several weights share is made once: the normalized candidate of an
  alpha, and the query likelihood times a c, kept until another c comes. The
  scores are valid until the next ones are asked for.
  """

  def __init__(self, parts, shape):
    self._parts = parts
    self._normalized, self._c = {}, None
    self._weighted, self._scores, self._spare = (
        np.empty(shape, np.float32) for _ in range(3))

  def __call__(self, weights):
    d, scores = np.float32(weights.d), self._bidirectional(weights)
    first, keep = self._parts['first_stage'], self._parts['keep']
    if first is not None and d != 1:
      np.multiply(first, 1 - d, out=self._spare)
      np.multiply(scores, d, out=self._scores)
      scores = np.add(self._scores, self._spare, out=self._scores)
    if keep is not None:
      scores = np.where(keep, scores, np.float32(LEFT_OUT))
    return scores

  def _bidirectional(self, weights):
    query, c = self._parts['query'], np.float32(weights.c)
    if self._parts['candidate'] is None:
      return query
    candidate = self._of_alpha(weights.alpha)
    if query is None:
      return candidate
    if self._c != c:
      self._c = c
      np.multiply(query, c, out=self._weighted)
    np.multiply(candidate, 1 - c, out=self._scores)
    return np.add(self._weighted, self._scores, out=self._scores)

  def _of_alpha(self, alpha):
    candidate, prior = self._parts['candidate'], self._parts['prior']
    if not alpha or prior is None:
      return candidate
    if alpha not in self._normalized:
      self._normalized[alpha] = candidate - np.float32(alpha) * prior
    return self._normalized[alpha]
