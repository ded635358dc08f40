"""Candidate prior normalization and what is composed of it.

Source: BLiM (arXiv 2507.23284), section 3; the exact form is the code's, with
length-normalised means and convex weights. Weights are chosen from stored
matrices, see `weighted_ranks`.
"""
from typing import NamedTuple

import numpy as np

from jaxret import metrics
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


def rows(direction, chosen, **others):
  """The score matrices of the result table, {row: [Q, C]}.

  Args:
    direction: a Direction.
    chosen: {'cpn': Weights, 'bidirectional': ..., 'blim': ...,
      'ensemble': ...}, as `choose` returns.
    **others: further sets of weights by the suffix of their rows, such as
      paper=..., oracle=....
  """
  table = {}
  if direction.first_stage is not None:
    table['first_stage'] = direction.first_stage
  if direction.candidate is not None:
    table['candidate_likelihood'] = direction.candidate
  if direction.query is not None:
    table['query_likelihood'] = direction.query
  for suffix, weights in {'': chosen, **others}.items():
    suffix = f'_{suffix}' if suffix else ''
    if direction.candidate is not None and direction.prior is not None:
      table[f'cpn{suffix}'] = normalized(direction, weights['cpn'].alpha)
    if direction.candidate is not None and direction.query is not None:
      table[f'bidirectional{suffix}'] = bidirectional(
          direction, weights['bidirectional'])
    table[f'blim{suffix}'] = bidirectional(direction, weights['blim'])
    if direction.first_stage is not None:
      table[f'ensemble{suffix}'] = ensemble(direction, weights['ensemble'])
  return {row: masked(score, direction.keep) for row, score in table.items()}


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
