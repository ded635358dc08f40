"""How much of a ranking a cheaper scorer keeps, and how to get back the rest.

Of scores [Q, C] of all pairs by a cheap scorer, a pair can only be among the
best k of a query by the dear one if it is `close`: within twice the largest
difference of the two from the k-th best. Those are scored again.
"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxret import metrics


def close(scores: np.ndarray, k: int, difference: float) -> np.ndarray:
  """bool [Q, C]: the pairs that can be among the best k of a query.

  scores: float [Q, C] that differ from the true ones by `difference` at most.
  A pair below the k-th best by more than twice that is truly below k others.
  """
  return scores >= _kth(scores.astype(np.float64), k) - 2 * difference


def _kth(scores, k):
  """The k-th best of each query, [Q, 1]; the last of fewer."""
  k = min(k, scores.shape[1])
  return -np.partition(-scores, k - 1, 1)[:, k - 1:k]


class Recomputed(NamedTuple):
  """scores [Q, C]: true ones of `again` bool [Q, C], the cheap ones elsewhere,
  which are no more than any of the best k. difference: what was assumed, no
  less than that of any pair seen."""
  scores: np.ndarray
  again: np.ndarray
  difference: float


def best_k_again(scores: np.ndarray, k: int,
                 score: Callable[[np.ndarray], np.ndarray], *,
                 sample: int = 1000, factor: float = 2.0,
                 seed: int = 0) -> Recomputed:
  """Makes the best k of each query those of a dearer scorer.

  The largest difference of the two scorers is not known; it is taken as
  `factor` times the largest among pairs that both scored: a random sample and
  every query's best k first, then all that were close, until none is new. It
  is proven of pairs that were scored again, and assumed of the others.

  Args:
    scores: float [Q, C] of all pairs, by the cheap scorer.
    k: how many are to be right.
    score: bool [Q, C] -> float [Q, C], true where asked for.
    sample: of pairs, to begin with.
    factor: of safety, at least 1.
    seed: of the sample.

  Raises:
    ValueError: for a `factor` below 1 or scores that are not finite.
  """
  if factor < 1:
    raise ValueError(f'factor: got {factor}, want 1 or more')
  if not np.isfinite(scores).all():
    raise ValueError('scores: got some that are not finite')
  again = close(scores, k, 0.0)
  rng = np.random.default_rng(seed)
  again.flat[rng.choice(scores.size, min(sample, scores.size), False)] = True
  out, new = scores.astype(np.float64), again
  while True:
    out[new] = score(new)[new]
    difference = factor * float(np.abs(out - scores)[again].max())
    new = close(scores, k, difference) & ~again
    if not new.any():
      # What was not scored again stays below the k-th of what was.
      kth = _kth(np.where(again, out, -np.inf), k)
      out = np.where(again, out, np.minimum(out, kth))
      return Recomputed(out, again, difference)
    again |= new


def report(scores: np.ndarray, reference: np.ndarray,
           relevant: Sequence[np.ndarray], k: int = 10) -> dict[str, float]:
  """How a ranking [Q, C] keeps that of `reference`, means over queries.

  relevant: Q arrays of candidates. Returns overlap_at_k (share of the best k),
  same_at_1, kendall_tau (tau-b), largest_difference, and recall_at_1 and _k in
  percent of both.
  """
  k = min(k, scores.shape[1])
  def best(matrix, count):
    return np.argsort(-matrix, 1, kind='stable')[:, :count]
  pairs = zip(best(scores, k), best(reference, k))
  found = {
      f'overlap_at_{k}': np.mean([len(np.intersect1d(a, b)) / k
                                  for a, b in pairs]),
      'same_at_1': np.mean(best(scores, 1) == best(reference, 1)),
      'kendall_tau': np.mean([scipy.stats.kendalltau(a, b).statistic
                              for a, b in zip(scores, reference)]),
      'largest_difference': np.abs(scores - reference).max()}
  for name, matrix in (('', scores), ('reference_', reference)):
    ranks = metrics.ranks(matrix, relevant)
    for count in (1, k):
      found[f'{name}recall_at_{count}'] = 100 * np.mean(ranks <= count)
  return {name: float(value) for name, value in found.items()}
