"""How large an effect is, over queries and seeds, and what it says of a claim.

Every seed answers the same queries, so that differences d[s, q] are a table of
two crossed random factors without repetition. The variance of their mean is

  V = A + B - E,  A = var_s(mean_q d) / S,  B = var_q(mean_s d) / Q,
                  E = the residual's mean square / (S Q)

(A and B each hold E once), never less than A or B alone, and the interval is
Student's t with the degrees of freedom of Satterthwaite (Biometrics Bulletin
1946). Seeds are few: a bootstrap over three of them is never wider than their
range and is too narrow (see jaxret.comparisons), while t with two degrees of
freedom is as wide as three numbers deserve. One seed says nothing of others:
its interval is over queries alone.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95
HOLDS, UNSEEN, OPPOSITE = 'holds', 'no difference seen', 'opposite'
VERDICTS = HOLDS, UNSEEN, OPPOSITE


class Part(NamedTuple):
  """Differences of one task, which count `weight` times in the effect.

  differences: float [S, Q], of S seeds on Q queries.
  """
  weight: float
  differences: np.ndarray


class Effect(NamedTuple):
  """A difference with its 95 % interval, in the unit of the metric.

  of_seeds: that of each seed alone.
  """
  difference: float
  low: float
  high: float
  of_seeds: tuple[float, ...]


def effect(parts: Sequence[Part]) -> Effect:
  """The weighted sum of the parts' means, each over seeds and queries.

  Tasks have queries of their own and share the seeds. Raises ValueError for
  parts of other seeds, fewer than two queries, or a value that is not finite.
  """
  parts = [Part(part.weight, np.asarray(part.differences, np.float64))
           for part in parts]
  shapes = [part.differences.shape for part in parts]
  if len({shape[:1] for shape in shapes}) != 1 or any(
      len(shape) != 2 or shape[0] < 1 or shape[1] < 2 for shape in shapes):
    raise ValueError(f'differences have the shapes {shapes}; want [S, Q] of '
                     'the same seeds, with two queries at least')
  if not all(np.isfinite(part.differences).all() for part in parts):
    raise ValueError('a difference is not finite: check the ranks')
  of_seeds = sum(part.weight * part.differences.mean(1) for part in parts)
  variance, freedom = _variance(parts, of_seeds)
  mean = float(np.mean(of_seeds))
  half = 0.0
  if variance > 0:
    # Student's quantile, by its degrees of freedom.
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)
                 ) * variance ** 0.5
  return Effect(mean, mean - half, mean + half, tuple(map(float, of_seeds)))


def _variance(parts, of_seeds):
  """(variance of the mean, its degrees of freedom); see above."""
  n_seeds = len(of_seeds)
  by_query = [(part.weight ** 2 * part.differences.mean(0).var(ddof=1)
               / part.differences.shape[1], part.differences.shape[1] - 1)
              for part in parts]
  terms = list(by_query)
  queries = variance = sum(term for term, _ in by_query)
  if n_seeds > 1:
    seeds = of_seeds.var(ddof=1) / n_seeds
    residual = sum(part.weight ** 2 * _residual(part.differences)
                   / part.differences.size for part in parts)
    variance = max(queries + seeds - residual, queries, seeds)
    terms.append((seeds, n_seeds - 1))
  spread = sum(term ** 2 / freedom for term, freedom in terms)
  return variance, variance ** 2 / spread if spread else 1.0


def _residual(differences):
  """Mean square of what neither a seed nor a query explains, [S, Q] -> float.
  """
  rest = (differences - differences.mean(0) - differences.mean(1)[:, None]
          + differences.mean())
  return (rest ** 2).sum() / ((len(differences) - 1)
                              * (differences.shape[1] - 1))


def verdict(found: Effect, margin: float = 0.0) -> str:
  """What an effect in favour of a claim says of it.

  margin: by how much less than zero it may lie, of a claim that something does
  no harm.
  """
  if found.low > -margin:
    return HOLDS
  if found.high < -margin:
    return OPPOSITE
  return UNSEEN


def together(verdicts: Sequence[str]) -> str:
  """Of a claim with several comparisons: it holds where all of them do."""
  if OPPOSITE in verdicts:
    return OPPOSITE
  return HOLDS if set(verdicts) == {HOLDS} else UNSEEN
