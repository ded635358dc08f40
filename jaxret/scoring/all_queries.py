"""Scores against hubs that see all queries at once: dual softmax, QB-norm.

A candidate that many queries score high loses by what the other queries gave
it. That needs no prior of a model, but all queries together: the same query
among others is answered in another way. Whatever is reported of such scores
has to say so.
"""
from collections.abc import Sequence

import numpy as np

from jaxret import by_rows, metrics

Scores = np.ndarray | by_rows.Matrix  # [Q, C]

METHODS = ('dual_softmax', 'qb_norm')
# In the unit of the scores, as a likelihood's nats per token.
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_BLOCK_CELLS = 1 << 20


def normalized(method: str, scores: Scores, temperature: float
               ) -> by_rows.Matrix:
  """Scores by one of METHODS, float32 [Q, C], higher is better.

  The sums over queries are made at once, each row when it is read.

  Args:
    method: 'dual_softmax' or 'qb_norm', see there.
    scores: [Q, C], logarithms such as log-likelihoods.
    temperature: that scores are divided by, in their unit.

  Raises:
    ValueError: for another method, a temperature that is not above 0, or a
      score that is not finite, as that of a pair that a cascade left out: the
      sums over queries lack it.
  """
  check(method)
  if not 0 < temperature < np.inf:
    raise ValueError(f'temperature is {temperature!r}: want a number above 0')
  def check_rows(rows, block):
    if not np.isfinite(block).all():
      query = rows.start + int(np.argmin(np.isfinite(block).all(1)))
      raise ValueError(f'{method}: query {query} has a pair without a score; '
                       'want all of them, so score without topk')
  for _ in by_rows.mapped(check_rows, scores, _BLOCK_CELLS):
    pass
  return (dual_softmax if method == 'dual_softmax' else qb_norm)(
      scores, temperature)


def check(method: str) -> None:
  """Raises ValueError for what is none of METHODS."""
  if method not in METHODS:
    raise ValueError(f'normalize is {method!r}: want one of '
                     f'{", ".join(METHODS)}')


def dual_softmax(scores: Scores, temperature: float) -> by_rows.Matrix:
  """Log of the softmax over candidates times the softmax over queries.

  Source: Cheng et al. 2021 (CAMoE, arXiv 2109.04290). They multiply a
  similarity by its softmax over the queries. Of scores below 0, as
  log-likelihoods are, that turns the order around: the similarity itself is
  replaced by its softmax over the candidates. float32 [Q, C].
  """
  over_queries = _Columns.of(scores, temperature).log_sums()
  def read(rows):
    block = _over(scores[rows], temperature)
    highest = block.max(1, keepdims=True)
    over_candidates = highest + np.log(
        np.exp(block - highest).sum(1, keepdims=True))
    return (2 * block - over_candidates - over_queries).astype(np.float32)
  return by_rows.Matrix(read, scores.shape)


def qb_norm(scores: Scores, temperature: float) -> by_rows.Matrix:
  """Scores less what a bank of queries gives a candidate, where that is a hub.

  Source: Bogolin et al. 2022 (QB-Norm, arXiv 2112.12777), the dynamic inverted
  softmax: a query whose best candidate is the best one of a query in the bank,
  too, has exp(score) divided by the sum over the bank; another one keeps its
  scores. Their bank are training queries, whose scores of these candidates are
  not at hand: here the bank of a query are the other queries. With its own
  score in the sum the order would be the same (x / (S - x) grows as x / S),
  but shares near 1 would be ties. float32 [Q, C], scores over the temperature.
  """
  columns = _Columns.of(scores, temperature)
  best = np.concatenate(list(by_rows.mapped(
      lambda _, block: block.argmax(1), scores, _BLOCK_CELLS)))
  is_hub = np.bincount(best, minlength=scores.shape[1])[best] > 1
  def read(rows):
    block = _over(scores[rows], temperature)
    others = columns.log_sums_of_others(np.arange(len(best))[rows], block)
    return np.where(is_hub[rows, None], block - others, block).astype(
        np.float32)
  return by_rows.Matrix(read, scores.shape)


def choose(method: str, scores: Scores, relevant: Sequence[np.ndarray]
           ) -> float:
  """The best of TEMPERATURES on this split, by R@1, then by MRR.

  Ties go to the higher one, which changes less.
  """
  def quality(temperature):
    ranks = metrics.ranks(normalized(method, scores, temperature), relevant)
    return (round(metrics.recall_at_k(ranks, 1), 6), metrics.mrr(ranks),
            temperature)
  return max(TEMPERATURES, key=quality)


def _over(block, temperature):
  return np.asarray(block, np.float64) / temperature


def _in_blocks(function, scores):
  """Yields (slice of rows, function(rows, block)) in order; see mapped."""
  return by_rows.mapped(
      lambda rows, block: (rows, function(rows, block)), scores, _BLOCK_CELLS)


class _Columns:
  """Sums of exp(score) over the queries of each candidate, without overflow.

  The best query is kept apart: less its own share, a sum that it dominates
  would keep no digits.
  """

  def __init__(self, highest, winner, second, total, total_of_others):
    self._highest, self._winner, self._second = highest, winner, second
    self._total, self._total_of_others = total, total_of_others

  @classmethod
  def of(cls, scores, temperature):
    n_candidates = scores.shape[1]
    def best_two(_, block):
      block = _over(block, temperature)
      place = block.argmax(0)
      top = np.take_along_axis(block, place[None], 0)[0]
      np.put_along_axis(block, place[None], -np.inf, 0)
      return place, top, block.max(0)
    highest, second = np.full((2, n_candidates), -np.inf)
    winner = np.zeros(n_candidates, np.int64)
    for rows, (place, top, next_best) in _in_blocks(best_two, scores):
      second = np.maximum(np.minimum(highest, top),
                          np.maximum(second, next_best))
      winner = np.where(top > highest, rows.start + place, winner)
      highest = np.maximum(highest, top)
    least, column = np.where(len(scores) > 1, second, 0), np.arange(
        n_candidates)
    def sums(rows, block):
      block = _over(block, temperature)
      mine = (rows.start <= winner) & (winner < rows.stop)
      block[winner[mine] - rows.start, column[mine]] = -np.inf
      return np.exp(block - least).sum(0)
    others = np.zeros(n_candidates)
    for _, total in _in_blocks(sums, scores):
      others += total
    return cls(highest, winner, second,
               1 + others * np.exp(second - highest), others)

  def log_sums(self):
    """[C]"""
    return self._highest + np.log(self._total)

  def log_sums_of_others(self, rows, block):
    """[q, C], over all queries but the row's own; -inf where there is none.

    rows: int [q].
    """
    is_winner = rows[:, None] == self._winner
    with np.errstate(divide='ignore'):
      of_winner = self._second + np.log(self._total_of_others)
      rest = self._highest + np.log(
          self._total - np.where(is_winner, 0, np.exp(block - self._highest)))
    return np.where(is_winner, of_winner, rest)
