"""Retrieval metrics from score matrices, in NumPy.

scores: [Q, C], any float type, higher is better, Q queries, C candidates.
relevant: Q arrays of candidate indices, each at least one long.

Rows are handled in blocks, so that memory beyond the matrix itself stays
small; a by_rows.Matrix is made block by block. Where a relevant and another
candidate have the same score, the other one is ranked before it, so that a
constant score is no success.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxret import by_rows

RECALL_AT = (1, 5, 10)
_BLOCK_CELLS = 1 << 19


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
  scores = by_rows.matrix(scores)
  rows, columns = _pairs(scores, relevant)
  def of_block(own, block):
    nan_rows = np.flatnonzero(np.isnan(block).any(axis=1))
    if nan_rows.size:
      raise ValueError(f'scores of query {own.start + nan_rows[0]} contain '
                       'NaN; a score must be a number')
    first, last = np.searchsorted(rows, [own.start, own.stop])
    starts = np.searchsorted(rows[first:last], np.arange(own.start, own.stop))
    return rank_rows(block, columns[first:last], starts)
  return np.concatenate(list(by_rows.mapped(of_block, scores, _BLOCK_CELLS)))


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
  scores = by_rows.matrix(scores)
  if any((block == 0).any()
         for _, block in by_rows.blocks(scores, _BLOCK_CELLS)):
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
  rows = by_rows.matrix(scores)
  return np.bincount(np.concatenate(list(by_rows.mapped(
      lambda _, block: np.argmax(block, axis=1), rows, _BLOCK_CELLS))),
                     minlength=rows.shape[1])


def occurrences(scores: ArrayLike, k: int) -> np.ndarray:
  """How often each candidate is among the first k over the queries, int64 [C].

  Of equal scores the earlier candidates count; one of -inf, which is that of a
  pair that was left out, never does. k may exceed C.
  """
  return _occurrences(scores, (k,))[0]


def _occurrences(scores, depths):
  """[int64 [C]] for each depth, in one pass; see `occurrences`."""
  scores = by_rows.matrix(scores)
  total = np.zeros((len(depths), scores.shape[1]), np.int64)
  for counts in by_rows.mapped(
      lambda _, block: [_first(block, k) for k in depths], scores,
      _BLOCK_CELLS):
    total += counts
  return total


def _first(block, k):
  """How often each candidate is among the first k, int64 [C]."""
  n_candidates = block.shape[1]
  if k == 1:
    best = np.argmax(block, 1)
    there = ~np.isneginf(np.take_along_axis(block, best[:, None], 1)[:, 0])
    return np.bincount(best[there], minlength=n_candidates)
  place = n_candidates - min(k, n_candidates)
  last = np.partition(block, place, 1)[:, place]  # the k-th best
  # What reaches it is little, unless there are many ties.
  row, column = np.divmod(
      np.flatnonzero(block >= last[:, None]), n_candidates)
  values = block[row, column]
  level = values == last[row]
  n_level, n_above = (
      np.bincount(row[part], minlength=len(block)) for part in (level, ~level))
  before = np.cumsum(n_level) - n_level  # in the rows above
  first = ~level | (np.cumsum(level) - before[row] <= k - n_above[row])
  return np.bincount(column[first & ~np.isneginf(values)],
                     minlength=n_candidates)


def hubness(scores: ArrayLike, k: int = 10) -> dict[str, float | int]:
  """How unequally candidates are ranked first, as in results.json.

  Returns {'skewness_at_1', 'skewness_at_<k>': of the times that each candidate
  is among the first 1 and k; 'never_first': percent of the candidates;
  'most_often_first': the queries that the most frequent candidate answers}.
  """
  first, among = _occurrences(scores, (1, k))
  return {'skewness_at_1': skewness(first),
          f'skewness_at_{k}': skewness(among),
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


def _pairs(scores, relevant):
  """(rows [n], columns [n]) of the relevant pairs, ascending, each once."""
  n_queries, n_candidates = _check(scores, relevant)
  rows = np.repeat(np.arange(n_queries), [len(r) for r in relevant])
  columns = np.concatenate([np.asarray(r, np.int64) for r in relevant])
  wrong = np.flatnonzero((columns < 0) | (columns >= n_candidates))
  if wrong.size:
    raise ValueError(
        f'query {rows[wrong[0]]} has the relevant candidate '
        f'{columns[wrong[0]]}; there are {n_candidates} candidates')
  return np.divmod(np.unique(rows * n_candidates + columns), n_candidates)


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
  # One row after the other: NumPy counts along an axis by adding numbers.
  n_at_least = np.array([np.count_nonzero(row) for row in block >= best[
      :, None]])
  is_best = values == best[_row_of_each(columns, starts)]
  return 1 + n_at_least - np.add.reduceat(is_best.astype(np.int64), starts)


def _released_ranks(block, columns, starts):
  order = np.argsort(block, axis=1, kind='stable')[:, ::-1]
  positions = np.empty_like(order)
  np.put_along_axis(positions, order, np.arange(block.shape[1])[None], axis=1)
  values = positions[_row_of_each(columns, starts), columns]
  return 1 + np.minimum.reduceat(values, starts)
