"""Candidate prior normalization and what is composed of it.

Source: BLiM (arXiv 2507.23284), section 3; the exact form is the code's, with
length-normalised means and convex weights. Weights are chosen from stored
matrices, see `weighted_ranks`.
"""
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxret import metrics
from jaxret.scoring.likelihood import weighted_ranks

GRID = tuple(round(0.1 * i, 1) for i in range(11))
_BLOCK_CELLS = 1 << 20


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

  Of thousands of queries and candidates all of them would not fit into memory
  at once: take one after the other.
  """

  def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]):
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
  plain = {'first_stage': direction.first_stage,
           'candidate_likelihood': direction.candidate,
           'query_likelihood': direction.query}
  makers = {row: functools.partial(masked, matrix, direction.keep)
            for row, matrix in plain.items() if matrix is not None}
  formulas = {}
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
  return Rows(makers | {row: functools.partial(_matrix, direction, formula)
                        for row, formula in formulas.items()})


def of_queries(direction, queries):
  """The Direction of some queries alone; queries: a slice or indices."""
  return Direction(*(
      matrix if matrix is None or len(matrix) == 1 else matrix[queries]
      for matrix in direction))


def _matrix(direction, formula):
  """Scores [Q, C] by a formula of a Direction, summed in blocks of rows."""
  n_queries = max(len(m) for m in direction if m is not None)
  first = formula(of_queries(direction, slice(0, 1)))
  result = np.empty((n_queries, first.shape[1]), first.dtype)
  size = max(1, _BLOCK_CELLS // first.shape[1])
  for start in range(0, n_queries, size):
    part = of_queries(direction, slice(start, start + size))
    result[start:start + size] = masked(formula(part), part.keep)
  return result


def masked(score, keep, fill=weighted_ranks.LEFT_OUT):
  """Pairs that a cascade left out rank last, all tied."""
  return score if keep is None else np.where(keep, score, np.float32(fill))


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
  likelihoods = direction._replace(first_stage=None)
  def best(options, parts=likelihoods):
    table = weighted_ranks.ranks(parts, options, relevant)
    quality = [(round(metrics.recall_at_k(ranks, 1), 6), metrics.mrr(ranks))
               for ranks in table]
    return options[max(range(len(options)), key=quality.__getitem__)]
  alphas = [Weights(alpha) for alpha in grid]
  if direction.candidate is None or direction.prior is None:
    alphas = [Weights()]
  mixed = grid
  if direction.candidate is None or direction.query is None:
    mixed = (0.0,)
  blim = best([Weights(w.alpha, c) for w in alphas for c in mixed])
  result = {'blim': blim, 'cpn': Weights(),
            'bidirectional': best([Weights(0.0, c) for c in mixed])}
  if direction.candidate is not None:
    result['cpn'] = best(alphas, _without_query(direction))
  if direction.first_stage is not None:
    result['ensemble'] = best([blim._replace(d=d) for d in grid], direction)
  return result


def sweep(direction, relevant, grid=GRID):
  """R@1 in percent of CPN for every alpha of the grid, float [n]."""
  return np.array([
      metrics.recall_at_k(ranks, 1) for ranks in weighted_ranks.ranks(
          _without_query(direction), [Weights(alpha) for alpha in grid],
          relevant)])


def _without_query(direction):
  return direction._replace(query=None, first_stage=None)
