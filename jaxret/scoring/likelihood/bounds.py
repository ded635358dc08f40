"""What a score can be at most while parts of it are not known, in NumPy.

A log-likelihood is never above 0. The first clip of a video after each text
costs one matmul for all videos, the first label of each text after a video
comes with the video's prefix: they are known for all pairs, and what is not
known yet can only lower a mean. A score is a sum of such means with weights
that are not negative, less a prior that is known; so each pair has a bound
that its score cannot exceed. Pairs whose bound lies below the k-th best score
of a query need not be computed: they are not among its best k. That is the
threshold algorithm (Fagin et al. 2001) with necessary probes (Chang and Hwang
2002) for likelihoods; the bound by the first clip is ours.

The denominator of `likelihood.Options.nonzero_denominator` is safe: as a sum
of log-likelihoods is not positive, dividing it by fewer labels lowers it.
"""
from typing import NamedTuple

import numpy as np

from jaxret.scoring.likelihood import cpn

BLOCK_CELLS = 1 << 22  # pairs whose bounds are in memory at once


class Part(NamedTuple):
  """One of the two likelihoods of Q queries and C candidates.

  mean: float32 [Q, C] per label or clip, NaN where it is not known.
  first: float32 [Q, C], log P of the first label or clip alone.
  count: float32 [Q or 1, C or 1], how many labels or clips there are.
  """
  mean: np.ndarray
  first: np.ndarray
  count: np.ndarray

  def most(self):
    """float32 [Q, C], what the mean is at most, whatever is known of it."""
    return self.first / self.count

  def upper(self):
    """float32 [Q, C]: the mean where it is known, else what it is at most."""
    return np.where(np.isnan(self.mean), self.most(), self.mean)


class Known(NamedTuple):
  """What is known of one direction's scores, as a cpn.Direction's parts.

  candidate, query: Parts; None where the model has no such likelihood.
  prior: float32 [Q or 1, C]; None where there is none.
  """
  candidate: Part | None
  query: Part | None
  prior: np.ndarray | None

  @property
  def shape(self):
    return (self.candidate or self.query).mean.shape

  def used(self, weights):
    """The same without a part whose weight is 0: it need not be known."""
    if self.candidate is None or self.query is None:
      return self
    return self._replace(candidate=None if weights.c == 1 else self.candidate,
                         query=None if weights.c == 0 else self.query)

  def rows(self, index):
    """The same of some queries, a slice."""
    def of(array):
      return array if len(array) == 1 else np.asarray(array[index])
    return Known(*(part and Part(*map(of, part)) for part in self[:2]),
                 None if self.prior is None else of(self.prior))

  def within(self, candidate, query):
    """The same as if no more were known; bool [Q, C], None = all there is."""
    def of(part, mask):
      if part is None or mask is None:
        return part
      return part._replace(mean=np.where(mask, part.mean, np.float32(np.nan)))
    return self._replace(candidate=of(self.candidate, candidate),
                         query=of(self.query, query))

  def whole(self):
    """bool [Q, C], the pairs of which all is known."""
    return ~np.any([np.isnan(part.mean) for part in self[:2] if part], 0)


def blocks(shape):
  """Slices of queries whose pairs fit in memory."""
  size = max(1, BLOCK_CELLS // shape[1])
  return [slice(first, min(first + size, shape[0]))
          for first in range(0, shape[0], size)]


def upper(known, weights):
  """What each score is at most, float32 [Q, C]; the score where all is known.

  Knowing more never raises it. weights: cpn.Weights, alpha and c; c * query +
  (1 - c) * (candidate - alpha * prior), of the parts that there are.
  """
  candidate, query = (part and part.upper() for part in known[:2])
  return cpn.bidirectional(
      cpn.Direction(candidate, query, known.prior), weights)


def scores(known, weights):
  """The scores, float32 [Q, C], -inf where something is not known."""
  return np.where(known.whole(), upper(known, weights), np.float32(-np.inf))


def thresholds(found, k):
  """The k-th best score of each query, float32 [Q]; -inf: fewer are known.

  found: [Q, C] as `scores` gives them.
  """
  if found.shape[1] < k:
    return np.full(len(found), -np.inf, np.float32)
  return np.partition(found, found.shape[1] - k, 1)[:, found.shape[1] - k]


class Violation(NamedTuple):
  """A value that is above what it can be; part: of Known."""
  part: str
  query: int
  candidate: int
  value: float
  most: float


def violation(known, slack):
  """The first known value that exceeds its bound by more than `slack`.

  Returns None, as a search can rely on its bounds, or a Violation: then the
  parts are not of one model, or are damaged.
  """
  for name in ('candidate', 'query'):
    part = getattr(known, name)
    if part is None:
      continue
    most = part.most()
    over = np.argwhere(part.mean > most + slack)  # NaN is not above anything
    if len(over):
      q, c = map(int, over[0])
      return Violation(name, q, c, float(part.mean[q, c]), float(most[q, c]))
  return None


class Share(NamedTuple):
  """What a search takes, as a share of what scoring all pairs takes.

  expected: of the tokens, of a search that computes a pair's clips, then its
  caption; least: of any search by these bounds, see `expected_share`.
  """
  expected: float
  least: float


def expected_share(known, weights, threshold, tokens):
  """The share of the tokens that a search needs, from a sample of pairs.

  The ratio law: computed token by token, a pair's bound b falls about evenly
  to its score s, and the pair is out of question below the threshold t: after
  (b - t) / (b - s) of its tokens. Its mean over pairs drawn at random is what
  no search by these bounds can do without. For long captions that are ranked
  by their own likelihood alone it is t / s, the ratio of the k-th best to a
  random pair's.

  Args:
    known: Known [Q, C] of the sample alone, all of it known.
    weights: cpn.Weights.
    threshold: [Q, 1], the k-th best score of each query.
    tokens: {'candidate': ..., 'query': ...}, those of a pair, [Q or 1, C or
      1], in the order in which they are computed.

  Returns:
    Share.
  """
  nothing = np.zeros(known.shape, bool)
  done = {'candidate': nothing, 'query': nothing}
  before = upper(known.within(**done), weights)
  score = upper(known, weights)
  # Of its tokens, 0 where it is out of question before, 1 where it stays.
  least = np.clip(np.divide(
      before - threshold, before - score, where=before > score,
      out=np.where(score >= threshold, 1.0, 0.0)), 0, 1)
  whole = sum(np.broadcast_to(size, known.shape) for size in tokens.values())
  taken = np.zeros(known.shape)
  for name, size in tokens.items():
    is_open = upper(known.within(**done), weights) >= threshold
    taken += np.where(is_open, size, 0)
    done[name] = ~nothing
  total = whole.sum() or 1
  return Share(float(taken.sum() / total), float((least * whole).sum() / total))
