"""What a cascade keeps of an exhaustive ranking, and how much it must keep.

A cascade scores the K best candidates of a first stage. Its answer is that of
exhaustive scoring if the best candidate is among them. Split conformal
prediction (Vovk et al. 2005; Lei et al. 2018) chooses K from queries that were
scored exhaustively, such that this holds for a new query with a probability
that is stated beforehand, whatever the scores are like.
"""
import math
from typing import NamedTuple

import numpy as np

from jaxret import by_rows

_BLOCK_CELLS = 1 << 19


class Agreement(NamedTuple):
  """Of n queries, those whose answer was kept; interval: 95 % of their share.

  The interval is exact for independent queries (Clopper and Pearson 1934).
  """
  queries: int
  kept: int

  @property
  def share(self):
    return self.kept / self.queries

  @property
  def interval(self):
    lost = self.queries - self.kept
    return (_lowest_share(self.kept, self.queries),
            1 - _lowest_share(lost, self.queries))


def _lowest_share(kept, queries):
  """The share with which that many or more are kept with 2.5 %."""
  logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, queries + 1)))])
  count = np.arange(kept, queries + 1)
  ways = logs[queries] - logs[count] - logs[queries - count]
  low, high = 0.0, 1.0
  for _ in range(50 if kept else 0):
    share = (low + high) / 2
    tail = np.exp(ways + count * math.log(share)
                  + (queries - count) * math.log1p(-share)).sum()
    low, high = (low, share) if tail > 0.025 else (share, high)
  return low


def places(first_stage):
  """int32 [Q, C], where each candidate is in the order of its query, from 1.

  Equal values are in the order of candidates.
  """
  found = np.empty(first_stage.shape, np.int32)
  for rows, block in by_rows.blocks(first_stage, _BLOCK_CELLS):
    found[rows] = _places(block)
  return found


def _places(block):
  order = np.argsort(-block, 1, kind='stable')
  found = np.empty(order.shape, np.int32)
  np.put_along_axis(
      found, order, np.arange(1, order.shape[1] + 1, dtype=np.int32)[None], 1)
  return found


def kept(first_stage, k):
  """bool [Q, C], the k best candidates of each query."""
  found = np.empty(first_stage.shape, bool)
  for rows, block in by_rows.blocks(first_stage, _BLOCK_CELLS):
    found[rows] = _places(block) <= k
  return found


def depths(placed, scores, k=1):
  """How many of the first stage's best hold the k best of `scores`, int [Q].

  placed: see `places`. scores: [Q, C]; k: all candidates if there are fewer.
  """
  return np.concatenate([
      np.take_along_axis(placed[rows], np.argsort(
          -block, 1, kind='stable')[:, :k], 1).max(1)
      for rows, block in by_rows.blocks(scores, _BLOCK_CELLS)])


def conformal_k(calibration, agreement, n_candidates):
  """The fewest candidates that keep a new query's answer with a probability.

  It is the ceil((n + 1) * agreement)-th smallest of n depths: a new query's is
  no deeper with a probability of at least `agreement`, if it is exchangeable
  with those n.

  Args:
    calibration: int [n], `depths` of queries. agreement: above 0, below 1.
    n_candidates: C; all of them where n queries cannot tell.
  """
  n = len(calibration)
  # Rounded: 20 * 0.95 is 19, not a little more.
  rank = math.ceil(round((n + 1) * agreement, 9))
  if rank > n:
    return int(n_candidates)
  return int(np.sort(calibration)[rank - 1])


def grid(n_candidates):
  """The K of a table: powers of two, and all candidates."""
  powers = [1 << i for i in range(n_candidates.bit_length())]
  return sorted({*(k for k in powers if k <= n_candidates), n_candidates})


def table(placed, scores, ks):
  """[(Agreement of the best, Agreement of the whole top 10)] for each K.

  A top 10 is kept if all of it is; of fewer candidates it is all of them.
  placed, scores: as for `depths`.
  """
  one, ten = (depths(placed, scores, k) for k in (1, 10))
  return [tuple(Agreement(len(d), int((d <= k).sum())) for d in (one, ten))
          for k in ks]
