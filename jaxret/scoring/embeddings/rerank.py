"""The order of a query's best candidates once a second model has seen them."""
import numpy as np

MODES = ('replace', 'interpolate')


def reorder(scores, p_true, mode='replace', weight=1.0):
  """Best first, int [Q, K]: places in the K candidates of each query.

  MM-Embed is read as replacing the first stage's score by P(True) (arXiv
  2411.02571, spec §3); LamRA interpolates. Equal candidates keep their order.

  Args:
    scores: float [Q, K], of the first stage.
    p_true: float [Q, K]; NaN where the second model has not seen a candidate,
      which then comes behind those that it has, by its score.
    mode: 'replace' or 'interpolate'; weight: of p_true in the sum, for the
      latter.
  """
  if mode not in MODES:
    raise ValueError(f'rerank mode {mode!r} is unknown; want one of '
                     f'{", ".join(MODES)}')
  scores, p_true = (np.asarray(x, np.float64) for x in (scores, p_true))
  value = p_true if mode == 'replace' else scores + weight * p_true
  seen = ~np.isnan(value)
  key = np.where(seen, value, scores)
  return np.lexsort((-key, ~seen), axis=-1)


# P(True) is float32: nearer to 0 or 1 its log odds are but rounding.
_LEAST = 1e-6


def log_odds(p_true):
  """float64, of the same shape; NaN where it is."""
  p_true = np.clip(np.asarray(p_true, np.float64), _LEAST, 1 - _LEAST)
  return np.log(p_true) - np.log1p(-p_true)


def with_log_odds(scores, p_true, weight):
  """float64 [Q, K]: the first stage's scores and what the second one changes.

  A candidate's log odds count, times the weight, as far as they differ from
  the mean of those that its query was asked about: a second stage that says
  one thing of all changes nothing, and neither does what it has not seen.

  Args:
    scores: float [Q, K], of the first stage.
    p_true: float [Q, K]; NaN where the second one has not seen a candidate.
    weight: similarity for a nat, 0 = the first stage alone.
  """
  odds = log_odds(p_true)
  seen = ~np.isnan(odds)
  total = np.where(seen, odds, 0).sum(1, keepdims=True)
  mean = total / np.maximum(seen.sum(1, keepdims=True), 1)
  return np.asarray(scores, np.float64) + weight * np.where(
      seen, odds - mean, 0)
