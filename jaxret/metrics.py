"""Retrieval metrics from score matrices, in NumPy.

scores: [Q, C], any float type, higher is better, Q queries, C candidates.
relevant: Q arrays of candidate indices, each at least one long.

Rows are handled in blocks, so that memory beyond the matrix itself stays
small. Where a relevant and another candidate have the same score, the other
one is ranked before it, so that a constant score is no success.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

RECALL_AT = (1, 5, 10)
_BLOCK_CELLS = 1 << 21


def ranks(scores: ArrayLike, relevant: Sequence[ArrayLike],
          ties: str = 'pessimistic') -> np.ndarray:
  """1-based rank of the best relevant candidate of each query, int64 [Q].

  ties: 'pessimistic' ranks a candidate that is not relevant before a relevant
    one of the same score; 'released' takes the order of the authors' code
    (get_recall in training_utils.py): ascending argsort, reversed. Their
    argsort is not stable, so that ties there depend on the machine; ours is,
    and among equal scores the later candidate comes first.

  Raises ValueError where a score is NaN, or where `relevant` does not fit.
  """
  if ties not in ('pessimistic', 'released'):
    raise ValueError(f"ties={ties!r}; wanted 'pessimistic' or 'released'")
  rank_rows = _pessimistic_ranks if ties == 'pessimistic' else _released_ranks
  return np.concatenate([
      rank_rows(block, columns, starts)
      for block, columns, starts in _blocks(scores, relevant)])


def ranks_in_lists(scores: Sequence[ArrayLike], lists: Sequence[ArrayLike],
                   relevant: Sequence[ArrayLike]) -> np.ndarray:
  """1-based rank of the best relevant candidate within each query's own list.

  scores: Q arrays, one score per entry of the list; lists: Q arrays of
    candidate indices without repeats; relevant: Q arrays of candidate indices,
    all in the list. Ties count against us. Returns int64 [Q]; rank 1 is what
    MMEB counts as precision@1.
  """
  found = np.empty(len(scores), np.int64)
  for q, (row, indices, wanted) in enumerate(zip(scores, lists, relevant)):
    hits = np.isin(indices, wanted)
    found[q] = ranks(np.asarray(row)[None], [np.flatnonzero(hits)])[0]
  return found


def ranks_in_top(scores: ArrayLike, indices: ArrayLike,
                 relevant: Sequence[ArrayLike]) -> np.ndarray:
  """1-based rank of the best relevant candidate among the first K of a search.

  scores: [Q, K], descending; indices: int [Q, K], -1 where there was no
    candidate; relevant: Q arrays of candidate indices. Ties count against us,
    also those that reach the end of the list, beyond which there may be more.
  Returns int64 [Q]; K + 1 stands for any later rank, so that only recall at
    k <= K can be told from it.
  """
  scores, indices = np.asarray(scores), np.asarray(indices)
  width = scores.shape[1]
  found = np.full(len(scores), width + 1, np.int64)
  for q, wanted in enumerate(relevant):
    hits = np.isin(indices[q], wanted)
    if not hits.any():
      continue
    best = scores[q, np.argmax(hits)]
    if scores[q, -1] < best or indices[q, -1] < 0:
      found[q] = 1 + np.count_nonzero((scores[q] >= best) & ~hits)
  return found


def recall_at_k(ranks: ArrayLike, k: int) -> float:
  """Percent of queries with a relevant candidate among the first k.

  Where a query has several relevant ones, this is the hit rate.
  """
  return 100.0 * float(np.mean(np.asarray(ranks) <= k))


def sum_of_recalls(*ranks: ArrayLike) -> float:
  """Sum over directions, given by their ranks, of recall at RECALL_AT (SumR).

  For both directions of retrieval it is at most 600.
  """
  return sum(recall_at_k(r, k) for r in ranks for k in RECALL_AT)


def median_rank(ranks: ArrayLike) -> float:
  """Median of the 1-based ranks."""
  return float(np.median(np.asarray(ranks)))


def mean_rank(ranks: ArrayLike) -> float:
  """Mean of the 1-based ranks."""
  return float(np.mean(np.asarray(ranks)))


def mrr(ranks: ArrayLike) -> float:
  """Mean reciprocal rank, 0 to 1."""
  return float(np.mean(1.0 / np.asarray(ranks, np.float64)))


def ndcg_in_top(grades: ArrayLike, relevant: Sequence[ArrayLike], k: int
                ) -> np.ndarray:
  """nDCG@k of each query from its first candidates, float64 [Q].

  grades: [Q, K >= k], the grade of the candidate at each rank, 0 = not
  relevant or none. relevant: Q sequences of the grades of all relevant ones.
  The gain is the grade, the discount 1 / log2(1 + rank), and a query without
  relevant ones has 0, as trec_eval and MTEB have them.
  """
  discounts = 1.0 / np.log2(np.arange(2, k + 2))
  ideal = [np.sort(np.asarray(own, np.float64))[::-1][:k] for own in relevant]
  best = np.array([own @ discounts[:len(own)] for own in ideal])
  gained = np.asarray(grades, np.float64)[:, :k] @ discounts[
      :np.shape(grades)[1]]
  return np.divide(gained, best, out=np.zeros_like(gained), where=best > 0)


def average_precision_in_top(hits: ArrayLike, n_relevant: ArrayLike, k: int
                             ) -> np.ndarray:
  """AP@k of each query, float64 [Q]: a mean over the first k answers found.

  hits: bool [Q, K >= k], whether the candidate at each rank is relevant;
  n_relevant: int [Q], 0 gives 0. The sum of precisions is divided by min(k,
  n_relevant), as CIRCO's authors do, not by n_relevant as trec_eval does.
  """
  hits = np.asarray(hits, bool)[:, :k]
  precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
  most = np.maximum(1, np.minimum(k, n_relevant))
  return (precision * hits).sum(1) / most


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, n_resamples: int = 2000,
    seed: int = 0) -> tuple[float, float]:
  """Percentile bootstrap interval of 100 x the mean of `values`.

  values: [Q], one per query, for instance whether it was answered; queries
    are drawn with replacement.
  Returns (low, high) in percent. Deterministic by seed.
  """
  values = np.asarray(values, np.float64)
  generator = np.random.default_rng(seed)
  n_rows = max(1, _BLOCK_CELLS // len(values))
  means = []
  for start in range(0, n_resamples, n_rows):
    shape = (min(n_rows, n_resamples - start), len(values))
    means.append(values[generator.integers(len(values), size=shape)].mean(1))
  tail = 50.0 * (1 - confidence)
  low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
  return 100.0 * float(low), 100.0 * float(high)


def summary(ranks: ArrayLike, seed: int = 0,
            recall_at: Sequence[int] = RECALL_AT) -> dict[str, Any]:
  """The numbers of one row of results.json from 1-based ranks [Q].

  Recall and its 95 % interval are in percent; mrr is between 0 and 1.
  """
  interval = bootstrap_interval(np.asarray(ranks) <= 1, seed=seed)
  return {
      **{f'recall_at_{k}': recall_at_k(ranks, k) for k in recall_at},
      'median_rank': median_rank(ranks),
      'mean_rank': mean_rank(ranks),
      'mrr': mrr(ranks),
      'recall_at_1_ci95': list(interval),
  }


def released_recall(scores: ArrayLike, relevant: Sequence[ArrayLike]
                    ) -> dict[str, float]:
  """Recall as the authors' code counts it (get_recall, training_utils.py).

  Ties are in the order of a reversed argsort, and a matrix with any exact 0
  has recall 0. Returns {'recall_at_1': percent, ...}.
  """
  if np.any(np.asarray(scores) == 0):
    return {f'recall_at_{k}': 0.0 for k in RECALL_AT}
  released = ranks(scores, relevant, ties='released')
  return {f'recall_at_{k}': recall_at_k(released, k) for k in RECALL_AT}


def top(scores: ArrayLike, relevant: ArrayLike, k: int) -> np.ndarray:
  """Indices of the first k candidates of one query, ties against us.

  scores: [C]; relevant: indices. Returns int64 [min(k, C)], best first; the
  order is the one that `ranks` counts in.
  """
  scores = np.asarray(scores)
  is_relevant = np.isin(np.arange(len(scores)), relevant)
  return np.lexsort((is_relevant, -scores))[:k]


def first_counts(scores: ArrayLike) -> np.ndarray:
  """How often each candidate is ranked first over the queries, int64 [C]."""
  scores = np.asarray(scores)
  return np.bincount(np.argmax(scores, axis=1), minlength=scores.shape[1])


def occurrences(scores: ArrayLike, k: int) -> np.ndarray:
  """How often each candidate is among the first k over the queries, int64 [C].

  Of equal scores the earlier candidates count; one of -inf, which is that of a
  pair that was left out, never does. k may exceed C.
  """
  scores = np.asarray(scores)
  n_candidates = scores.shape[1]
  counts, size = np.zeros(n_candidates, np.int64), max(
      1, _BLOCK_CELLS // n_candidates)
  place = n_candidates - min(k, n_candidates)
  for start in range(0, len(scores), size):
    block = scores[start:start + size]
    last = np.partition(block, place, 1)[:, place, None]  # the k-th best
    above, level = block > last, block == last
    room = k - above.sum(1, keepdims=True)
    level &= np.cumsum(level, 1) <= room
    counts += ((above | level) & ~np.isneginf(block)).sum(0)
  return counts


def hubness(scores: ArrayLike, k: int = 10) -> dict[str, float | int]:
  """How unequally candidates are ranked first, as in results.json.

  Returns {'skewness_at_1', 'skewness_at_<k>': of the times that each candidate
  is among the first 1 and k; 'never_first': percent of the candidates;
  'most_often_first': the queries that the most frequent candidate answers}.
  """
  first = occurrences(scores, 1)
  return {'skewness_at_1': skewness(first),
          f'skewness_at_{k}': skewness(occurrences(scores, k)),
          'never_first': 100.0 * float(np.mean(first == 0)),
          'most_often_first': int(first.max())}


def skewness(counts: ArrayLike) -> float:
  """Third standardised moment: large where a few candidates are hubs.

  The usual number for hubness (Radovanovic et al., JMLR 2010, equation 1);
  0 where all counts are equal. There scipy.stats.skew is NaN; elsewhere it has
  another last bit for most counts, and takes a second to import.
  """
  counts = np.asarray(counts, np.float64)
  deviations = counts - np.mean(counts)
  spread = np.sqrt(np.mean(deviations ** 2))
  return float(np.mean(deviations ** 3) / spread ** 3) if spread else 0.0


def _blocks(scores, relevant):
  """Yields (scores [b, C], columns [n], starts [b]) for blocks of rows.

  columns[starts[i]:starts[i + 1]] are the relevant candidates of row i of the
  block, without repeats, in ascending order.
  """
  scores = np.asarray(scores)
  n_queries, n_candidates = _check(scores, relevant)
  rows = np.repeat(np.arange(n_queries), [len(r) for r in relevant])
  columns = np.concatenate([np.asarray(r, np.int64) for r in relevant])
  wrong = np.flatnonzero((columns < 0) | (columns >= n_candidates))
  if wrong.size:
    raise ValueError(
        f'query {rows[wrong[0]]} has the relevant candidate '
        f'{columns[wrong[0]]}; there are {n_candidates} candidates')
  rows, columns = np.divmod(np.unique(rows * n_candidates + columns),
                            n_candidates)
  n_rows = max(1, _BLOCK_CELLS // n_candidates)
  for start in range(0, n_queries, n_rows):
    block = scores[start:start + n_rows]
    nan_rows = np.flatnonzero(np.isnan(block).any(axis=1))
    if nan_rows.size:
      raise ValueError(f'scores of query {start + nan_rows[0]} contain NaN; '
                       'a score must be a number')
    first, last = np.searchsorted(rows, [start, start + len(block)])
    starts = np.searchsorted(rows[first:last],
                             np.arange(start, start + len(block)))
    yield block, columns[first:last], starts


def _check(scores, relevant):
  if scores.ndim != 2 or 0 in scores.shape:
    raise ValueError(f'scores have the shape {scores.shape}; wanted [Q, C]')
  if len(relevant) != len(scores):
    raise ValueError(f'scores have {len(scores)} rows, but `relevant` has '
                     f'{len(relevant)} entries; wanted one per query')
  for query, indices in enumerate(relevant):
    if len(indices) == 0:
      raise ValueError(f'query {query} has no relevant candidate; leave it out')
  return scores.shape


def _row_of_each(columns, starts):
  return np.repeat(np.arange(len(starts)), np.diff([*starts, len(columns)]))


def _pessimistic_ranks(block, columns, starts):
  values = block[_row_of_each(columns, starts), columns]
  best = np.maximum.reduceat(values, starts)
  n_at_least = np.count_nonzero(block >= best[:, None], axis=1)
  is_best = values == best[_row_of_each(columns, starts)]
  return 1 + n_at_least - np.add.reduceat(is_best.astype(np.int64), starts)


def _released_ranks(block, columns, starts):
  order = np.argsort(block, axis=1, kind='stable')[:, ::-1]
  positions = np.empty_like(order)
  np.put_along_axis(positions, order, np.arange(block.shape[1])[None], axis=1)
  values = positions[_row_of_each(columns, starts), columns]
  return 1 + np.minimum.reduceat(values, starts)
