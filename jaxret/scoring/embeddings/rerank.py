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
