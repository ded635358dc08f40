"""Reorders the first candidates of each query by what a generative model says.

The probability that it answers "True" when asked whether a candidate fits
replaces the similarity, or is added to it (MM-Embed §3; LamRA adds), or its log
odds are, by a weight that rerank_choice chooses.
"""
import pathlib

import numpy as np
from tqdm import tqdm

from jaxret.data.sets import mixed as mixed_lib
from jaxret.methods.mm_embed import evaluator as mixed
from jaxret.scoring import store
from jaxret.scoring.embeddings import rerank, searches

DEPTH = 10  # candidates per query that are asked about


def rerank_task(union, task, ranking, ask, directory, fingerprint,
                mode='replace', weight=1.0, depth=DEPTH, block_queries=16):
  """The mixed.Ranking with its first `depth` candidates reordered.

  Args:
    union: a mixed.Union; ranking: of the task in it, or in a pool of it.
    ask, directory, fingerprint, block_queries: see `first_answers`.
    mode, weight: see scoring.embeddings.rerank.reorder.

  A candidate of another modality than the task asks for is not asked about:
  its probability is 0.
  """
  p_true = np.nan_to_num(first_answers(
      union, task, ranking, ask, directory, fingerprint, depth, block_queries))
  order = rerank.reorder(ranking.scores[:, :depth], p_true, mode, weight)
  values = p_true if mode == 'replace' else (
      ranking.scores[:, :depth] + weight * p_true)
  return _in_order(ranking, values, order)


def by_log_odds(ranking, p_true, weights):
  """The mixed.Ranking with its first candidates in the order of both models.

  p_true: as `first_answers` gives it; weights: [Q], of each query, see
  scoring.embeddings.rerank.with_log_odds.
  """
  values = rerank.with_log_odds(
      ranking.scores[:, :p_true.shape[1]], p_true, np.asarray(weights)[:, None])
  return _in_order(ranking, values, np.argsort(-values, 1, kind='stable'))


def _in_order(ranking, values, order):
  """values [Q, K], order [Q, K]: of the first K candidates."""
  depth = order.shape[1]
  values = np.take_along_axis(values.astype(np.float64), order, 1)
  # Above all that were not asked about, ties as they are.
  rest = ranking.scores[:, depth:].max(1, initial=-np.inf, keepdims=True)
  lift = np.where(np.isfinite(rest), rest + 1 - values.min(1, keepdims=True), 0)
  first = ranking.candidates[:, :depth]
  return mixed.Ranking(
      ranking.kept, np.concatenate(
          [values + np.maximum(lift, 0), ranking.scores[:, depth:]], 1),
      np.concatenate([np.take_along_axis(first, order, 1),
                      ranking.candidates[:, depth:]], 1))


def first_answers(union, task, ranking, ask, directory, fingerprint,
                  depth=DEPTH, block_queries=16):
  """P("True") of the first `depth` candidates of each query, float32 [Q, K].

  NaN of those that were not asked about: of another modality than the task
  asks for, or none.

  Args:
    ask: (query Items, for each a list of at most `depth` candidate Items) ->
      float [Q, depth], P("True"), of shorter lists at the start of the row.
    directory, fingerprint: where probabilities are kept, and what they depend
      on besides the pairs: a killed run asks nothing twice.
  """
  first = ranking.candidates[:, :depth]
  p_true = probabilities(union, task, ranking.kept, first, ask, store.Store(
      pathlib.Path(directory), {
          **fingerprint, 'candidates': searches.digest(ranking.kept, first)}),
                         block_queries)
  return np.where(_asked(union, task, first), p_true, np.nan)


def _asked(union, task, candidates):
  """Which candidates are asked about, bool [Q, K]."""
  wanted = mixed_lib.MODALITIES.index(task.modality)
  return (candidates >= 0) & (union.modality[candidates] == wanted)


def probabilities(union, task, queries, candidates, ask, scores,
                  block_queries=16):
  """P("True") of each query's candidates, float32 [Q, K].

  queries: int [Q], of the task; candidates: int [Q, K], places in the union,
  -1 = none. scores: a store.Store that keeps what is finished.
  """
  matrix = scores.matrix('p_true', candidates.shape)
  asked = _asked(union, task, candidates)
  for start in tqdm(range(0, len(queries), block_queries), 'reranking',
                    unit='block'):
    block = slice(start, start + block_queries)
    if not np.isnan(matrix[block]).any():
      continue
    found = np.zeros(asked[block].shape, np.float32)
    rows = np.flatnonzero(asked[block].any(1))
    if len(rows):
      values = ask(
          [task.queries[queries[start + row]] for row in rows],
          [[union[int(place)] for place in
            candidates[start + row][asked[start + row]]] for row in rows])
      for row, own in zip(rows, values):
        where = np.flatnonzero(asked[start + row])
        found[row, where] = own[:len(where)]
    matrix[block] = found
    matrix.flush()
  return np.array(matrix)
