"""Multiple choice by likelihood, less alpha times what the prior says.

Candidate prior normalization (BLiM, arXiv 2507.23284, section 3) with the
choices of a question as the candidates. Questions have different numbers of
choices: matrices [N, C] hold NaN where a question has no such choice.
"""
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxret import metrics
from jaxret.scoring.likelihood import cpn


class Likelihoods(NamedTuple):
  """What a model says of C choices, at most, of N questions, float32 [N, C].

  likelihood: log P(choice | item, question); prior: log P(choice | question),
  None = not at hand. NaN where there is no such choice.
  """
  likelihood: np.ndarray
  prior: np.ndarray | None


def scores(parts: Likelihoods, alpha: float) -> np.ndarray:
  """Likelihood less alpha times the prior, float32 [N, C].

  -inf where there is no such choice, or no number.
  Raises ValueError for an alpha outside of 0 to 1, or one that has no prior.
  """
  check_alpha(alpha)
  if alpha and parts.prior is None:
    raise ValueError(f'alpha is {alpha:g}, but there is no prior to subtract: '
                     'score it, or set alpha=0')
  found = parts.likelihood
  if alpha:
    found = found - np.float32(alpha) * parts.prior
  return np.where(np.isnan(found), np.float32(-np.inf), found)


def check_alpha(alpha: float) -> None:
  """Raises ValueError for what is no share of the prior."""
  if isinstance(alpha, bool) or not isinstance(
      alpha, numbers.Real) or not 0 <= alpha <= 1:
    raise ValueError(f'alpha is {alpha!r}: give a number from 0 to 1, the '
                     'share of the prior that is subtracted')


def ranks(found: np.ndarray, answers: Sequence[int]) -> np.ndarray:
  """1-based ranks of the right choices, int64 [N]; ties count against us.

  found: scores [N, C]. Raises ValueError for an answer that is no choice, and
  for a question without scores.
  """
  answers = np.asarray(answers, np.int64)
  for n, (row, answer) in enumerate(zip(found, answers)):
    if not np.isfinite(row).any():
      raise ValueError(f'question {n} has no scores, since its item or one of '
                       'its choices could not be used: leave it out')
    if not 0 <= answer < len(row) or not np.isfinite(row[answer]):
      raise ValueError(
          f'question {n}: its answer is choice {answer}, but it has '
          f'{np.isfinite(row).sum()} choices')
  return metrics.ranks(found, answers[:, None])


def choose_alpha(parts: Likelihoods, answers: Sequence[int],
                 grid: Sequence[float] = cpn.GRID) -> float:
  """The alpha that answers most of these questions, as cpn.choose does.

  By the share of right answers, then by MRR; ties go to the smaller alpha.
  Raises ValueError for an answer that is no choice, or without a question.
  """
  if not len(answers):
    raise ValueError('there is no question to choose alpha on: give one at '
                     'least, with its answer')
  ranks(scores(parts, float(parts.prior is not None)), answers)  # all are there
  return cpn.choose(cpn.Direction(scores(parts, 0.0), None, _filled(parts)), [
      np.array([answer]) for answer in answers], grid)['cpn'].alpha


def _filled(parts):
  """The prior with 0 where there is no choice, where any score is -inf."""
  if parts.prior is None:
    return None
  return np.where(np.isnan(parts.likelihood), np.float32(0), parts.prior)


def sweep(parts: Likelihoods, answers: Sequence[int],
          grid: Sequence[float] = cpn.GRID) -> np.ndarray:
  """Percent of right answers for every alpha of the grid, float [n]."""
  return np.array([metrics.recall_at_k(ranks(scores(parts, alpha), answers), 1)
                   for alpha in grid])


def yes_no(said: Sequence[bool], truth: Sequence[bool]) -> dict[str, Any]:
  """What POPE (Li et al. 2023) reports, in percent.

  accuracy; precision, recall and F1 of 'yes', 0 where nothing is counted; and
  the share of 'yes' among what was said.

  said, truth: bool [N], True = yes.
  """
  said, truth = np.asarray(said, bool), np.asarray(truth, bool)
  if not len(said) or said.shape != truth.shape:
    raise ValueError(f'yes/no: got {said.shape} answers for {truth.shape} '
                     'questions; wanted one each, of one at least')
  hits = float(np.sum(said & truth))
  precision = hits / max(int(said.sum()), 1)
  recall = hits / max(int(truth.sum()), 1)
  both = precision + recall
  return {'questions': len(said),
          'accuracy': 100.0 * float(np.mean(said == truth)),
          'precision': 100.0 * precision, 'recall': 100.0 * recall,
          'f1': 100.0 * (2 * precision * recall / both if both else 0.0),
          'yes_share': 100.0 * float(np.mean(said))}
