"""Candidate prior normalization and what is composed of it.

Source: BLiM (arXiv 2507.23284), section 3; the exact form is the code's, with
length-normalised means and convex weights. Weights are chosen from stored
matrices, see `weighted_ranks`.
"""
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxret import by_rows, metrics
from jaxret.scoring.likelihood import weighted_ranks

GRID = tuple(round(0.1 * i, 1) for i in range(11))


class Direction(NamedTuple):
  """The matrices of one direction, [Q, C], or [1, C] where rows agree.

  candidate: log P(candidate | query); query: log P(query | candidate);
  prior: log P(candidate); first_stage: any other score; None = not at hand.
  keep: bool [Q, C], the pairs that were scored; None = all.
  """
  candidate: np.ndarray | None
  query: np.ndarray | None
  prior: np.ndarray | None
  first_stage: np.ndarray | None = None
  keep: np.ndarray | None = None


class Weights(NamedTuple):
  """alpha: of the prior; c: of the query likelihood; d: against first stage."""
  alpha: float = 0.0
  c: float = 0.0
  d: float = 1.0


def normalized(direction, alpha):
  """Candidate likelihood less alpha times the candidate's prior (CPN)."""
  if direction.candidate is None:
    return None
  if not alpha or direction.prior is None:
    return direction.candidate
  return direction.candidate - np.float32(alpha) * direction.prior


def bidirectional(direction, weights):
  """c * query likelihood + (1 - c) * CPN; the one there is, if only one."""
  candidate = normalized(direction, weights.alpha)
  if candidate is None:
    return direction.query
  if direction.query is None:
    return candidate
  c = np.float32(weights.c)
  return c * direction.query + (1 - c) * candidate


def ensemble(direction, weights):
  """d * BLiM + (1 - d) * first stage, on its raw scale as the authors do."""
  d = np.float32(weights.d)
  return d * bidirectional(direction, weights) + (
      1 - d) * direction.first_stage


class Rows(Mapping):
  """{row: its score matrix [Q, C]}, made anew each time that it is asked for.

  A matrix is one of its parts, or a by_rows.Matrix of them: of thousands of
  queries and candidates none would fit into memory.
  """

  def __init__(self, makers: Mapping[str, Callable[[], Any]]):
    self._makers = dict(makers)

  def __getitem__(self, row):
    return self._makers[row]()

  def __iter__(self):
    return iter(self._makers)

  def __len__(self):
    return len(self._makers)

  def __contains__(self, row):
    return row in self._makers

  def joined(self, makers):
    """Rows with further ones, after these."""
    return Rows({**self._makers, **makers})


def rows(direction, chosen, **others):
  """The Rows of the result table, of score matrices [Q, C].

  Args:
    direction: a Direction.
    chosen: {'cpn': Weights, 'bidirectional': ..., 'blim': ...,
      'ensemble': ...}, as `choose` returns.
    **others: further sets of weights by the suffix of their rows, such as
      paper=..., oracle=....
  """
  plain = {'first_stage': 'first_stage', 'candidate_likelihood': 'candidate',
           'query_likelihood': 'query'}
  formulas = {row: operator.attrgetter(part) for row, part in plain.items()
              if getattr(direction, part) is not None}
  for suffix, weights in {'': chosen, **others}.items():
    suffix = f'_{suffix}' if suffix else ''
    if direction.candidate is not None and direction.prior is not None:
      formulas[f'cpn{suffix}'] = functools.partial(
          normalized, alpha=weights['cpn'].alpha)
    if direction.candidate is not None and direction.query is not None:
      formulas[f'bidirectional{suffix}'] = functools.partial(
          bidirectional, weights=weights['bidirectional'])
    formulas[f'blim{suffix}'] = functools.partial(
        bidirectional, weights=weights['blim'])
    if direction.first_stage is not None:
      formulas[f'ensemble{suffix}'] = functools.partial(
          ensemble, weights=weights['ensemble'])
  makers = {row: functools.partial(_matrix, direction, formula)
            for row, formula in formulas.items()}
  if direction.keep is None:  # as they are mapped
    makers |= {row: functools.partial(getattr, direction, part)
               for row, part in plain.items() if row in makers}
  return Rows(makers)


def of_queries(direction, queries):
  """The Direction of some queries alone; queries: a slice or indices."""
  return Direction(*(
      matrix if matrix is None or len(matrix) == 1 else matrix[queries]
      for matrix in direction))


def _matrix(direction, formula):
  """by_rows.Matrix of the scores [Q, C] by a formula of a Direction."""
  def read(queries):
    part = of_queries(direction, queries)
    n_queries = max(len(m) for m in part if m is not None)
    scores = masked(formula(part), part.keep)
    # Where all rows agree, one stands for them.
    return np.broadcast_to(scores, (n_queries, scores.shape[1]))
  n_queries = max(len(m) for m in direction if m is not None)
  first = read(slice(0, 1))
  return by_rows.Matrix(read, (n_queries, first.shape[1]), first.dtype)


def masked(score, keep, fill=weighted_ranks.LEFT_OUT):
  """Pairs that a cascade left out rank last, all tied."""
  if keep is None:
    return score
  if isinstance(score, by_rows.Matrix):
    return by_rows.Matrix(
        lambda rows: np.where(keep[rows], score[rows], np.float32(fill)),
        score.shape, score.dtype)
  return np.where(keep, score, np.float32(fill))


def fixed(alpha, c, d):
  """The same weights for every row; plain `bidirectional` has no prior."""
  full = Weights(alpha, c, d)
  return {'cpn': full, 'bidirectional': Weights(0.0, c), 'blim': full,
          'ensemble': full}


def choose(direction, relevant, grid=GRID):
  """The best weights per row on this split, by R@1, then by MRR.

  Ties go to the smaller weight: to less correction. `blim` searches alpha and
  c together, `ensemble` adds d to what `blim` found.
  """
  alphas = [Weights(alpha) for alpha in grid]
  if direction.candidate is None or direction.prior is None:
    alphas = [Weights()]
  mixed = grid
  if direction.candidate is None or direction.query is None:
    mixed = (0.0,)
  # One at c = 0 is the candidate's alone: 0 * query adds nothing.
  options = {'blim': [Weights(w.alpha, c) for w in alphas for c in mixed],
             'bidirectional': [Weights(0.0, c) for c in mixed], 'cpn': alphas}
  quality = _qualities(direction._replace(first_stage=None), relevant,
                       dict.fromkeys(sum(options.values(), [])))
  result = {row: max(own, key=quality.__getitem__)
            for row, own in options.items()}
  if direction.first_stage is not None:
    own = [result['blim']._replace(d=d) for d in grid]
    result['ensemble'] = max(
        own, key=_qualities(direction, relevant, own).__getitem__)
  return result


def _qualities(direction, relevant, options):
  """{Weights: (R@1, MRR)}, in one pass over the matrices."""
  table = weighted_ranks.ranks(direction, list(options), relevant)
  return {weights: (round(metrics.recall_at_k(ranks, 1), 6),
                    metrics.mrr(ranks))
          for weights, ranks in zip(options, table)}


def sweep(direction, relevant, grid=GRID):
  """R@1 in percent of CPN for every alpha of the grid, float [n]."""
  return np.array([
      metrics.recall_at_k(ranks, 1) for ranks in weighted_ranks.ranks(
          _without_query(direction), [Weights(alpha) for alpha in grid],
          relevant)])


def _without_query(direction):
  return direction._replace(query=None, first_stage=None)
