"""What reranking gives: scores, and the order that they make."""
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Reranked:
  """How well candidates answer a query, float32 [C]; or Q queries, [Q, C].

  log_odds: log P(yes) - log P(no), or the frame's own words; NaN where a query
  has no such candidate, or one of the two cannot be used. prior: of each query
  the log odds of a candidate that is empty, [] or [Q]; None = not calibrated.
  """
  log_odds: np.ndarray
  prior: np.ndarray | None = None

  @property
  def calibrated(self) -> np.ndarray:
    """The log odds less the prior where there is one."""
    if self.prior is None:
      return self.log_odds
    return np.asarray(self.log_odds - self.prior[..., None])

  @property
  def scores(self) -> np.ndarray:
    """Their sigmoid, 0 to 1: P(yes) of the two words, without a prior."""
    # In float64 no exponential overflows before it counts for nothing.
    with np.errstate(over='ignore'):
      odds = np.exp(-self.calibrated.astype(np.float64))
      return (1 / (1 + odds)).astype(np.float32)

  @property
  def order(self) -> np.ndarray:
    """The candidates from best to worst, int64 like the scores.

    Of equal ones the first comes first. -1, at the end, for each without a
    score.
    """
    found = self.calibrated
    order = np.argsort(-found, -1, kind='stable')  # NaN comes last
    return np.where(np.isnan(np.take_along_axis(found, order, -1)), -1, order)
