"""Modality-aware hard negatives: what a retriever got wrong, in two ways.

MM-Embed's training (arXiv 2411.02571): of the top k of the pool of all
modalities, C1 holds candidates of the wrong modality that are ranked before
the positive, C2 candidates of the right modality that are ranked after k'; the
offset keeps answers nobody labelled out of C2. A negative comes from either
with equal chance. What that is compared with are the other STRATEGIES.
"""
from typing import NamedTuple

import numpy as np

KINDS = ('wrong_modality', 'insufficient', 'random')
WRONG_MODALITY, INSUFFICIENT, RANDOM = range(len(KINDS))
# MM-Embed's; C2 alone; any of the top k, blind to modality, as plain hard
# negatives are (ANCE, arXiv 2007.00808); none of them but random ones.
STRATEGIES = ('modality_aware', 'right_modality', 'any_modality', 'random')


class Sets(NamedTuple):
  """Which of the ranked candidates may be drawn; Q queries, K ranks.

  wrong_modality (C1), insufficient (C2): bool [Q, K]. positive_rank: int64
  [Q], 1-based; K + 1 where the positive is not among them.
  """
  wrong_modality: np.ndarray
  insufficient: np.ndarray
  positive_rank: np.ndarray


def split(ranked, modality, positive, positives, offset,
          strategy='modality_aware'):
  """The sets C1 and C2 of every query, or what a strategy has in their place.

  Args:
    ranked: int [Q, K], candidates by rank, the best first; -1 = none.
    modality: int [C], of each candidate.
    positive: int [Q], the positive that the query is trained with.
    positives: Q arrays of all candidates that are labelled positives.
    offset: k', C2 starts after this rank.
    strategy: one of STRATEGIES.

  Errors: ValueError for another strategy.
  """
  if strategy not in STRATEGIES:
    raise ValueError(f'mine.strategy {strategy!r} is unknown; want one of '
                     f'{", ".join(STRATEGIES)}')
  ranked, positive = np.asarray(ranked), np.asarray(positive)
  n_queries, n_ranks = ranked.shape
  rank = np.arange(1, n_ranks + 1)
  is_positive = ranked == positive[:, None]
  positive_rank = np.where(
      is_positive.any(1), is_positive.argmax(1) + 1, n_ranks + 1)
  free = (ranked >= 0) & ~_labelled(ranked, positives)
  right = modality[ranked] == modality[positive][:, None]
  if strategy == 'any_modality':
    return Sets(free & ~right, free & right, positive_rank)
  if strategy == 'random':
    return Sets(free & False, free & False, positive_rank)
  wrong = free & ~right & (rank < positive_rank[:, None])
  return Sets(wrong & (strategy == 'modality_aware'),
              free & right & (rank > offset), positive_rank)


def _labelled(ranked, positives):
  """Whether each ranked candidate is one of the query's positives, [Q, K]."""
  n_queries = len(ranked)
  rows = np.repeat(np.arange(n_queries), [len(p) for p in positives])
  columns = np.concatenate(
      [np.asarray(p, np.int64) for p in positives] or [np.zeros(0, np.int64)])
  size = 1 + max(int(ranked.max(initial=0)), int(columns.max(initial=0)))
  pairs = np.unique(rows * size + columns)
  asked = np.arange(n_queries)[:, None] * size + np.maximum(ranked, 0)
  return np.isin(asked, pairs) & (ranked >= 0)


def draw(ranked, sets, positive, positives, pool, seed, first=0, even=True):
  """One negative per query -> (candidate int64 [Q], kind int8 [Q]).

  Both sets have the same chance; of an empty one the other is taken. Where
  both are empty (the paper does not say), a candidate is drawn at random from
  those that share the positive's label in `pool`, and where these are all
  positives, from all.

  Args:
    ranked, positive, positives: as for `split`, which gave `sets`.
    pool: int [C], a label of each candidate: its data set and modality.
    seed, first: the draw of query q depends on the seed and on first + q
      alone, whatever other queries are drawn with it.
    even: whether the sets have the same chance, whatever their sizes; or else
      all candidates in them.
  kind: an index of KINDS.

  Errors: ValueError naming the query whose positives are the whole pool.
  """
  chance = _chances(len(ranked), seed, first)
  counts = np.stack([sets.wrong_modality.sum(1), sets.insufficient.sum(1)], 1)
  share = 0.5 if even else counts[:, WRONG_MODALITY] / np.maximum(
      counts.sum(1), 1)
  kind = np.where(chance[:, 0] < share, WRONG_MODALITY, INSUFFICIENT)
  kind = np.where(counts[:, WRONG_MODALITY] == 0, INSUFFICIENT, kind)
  kind = np.where(counts[:, INSUFFICIENT] == 0, WRONG_MODALITY, kind)
  kind = np.where(counts.sum(1) == 0, RANDOM, kind).astype(np.int8)
  chosen = np.where((kind == WRONG_MODALITY)[:, None], sets.wrong_modality,
                    sets.insufficient)
  nth = np.floor(chance[:, 1] * chosen.sum(1)).astype(int)
  place = np.argmax(chosen.cumsum(1) > nth[:, None], 1)
  negative = np.take_along_axis(
      np.asarray(ranked), place[:, None], 1)[:, 0].astype(np.int64)
  members = _Members(pool)
  for q in np.flatnonzero(kind == RANDOM):
    negative[q] = members.draw(positive[q], positives[q], chance[q, 2])
    if negative[q] < 0:
      raise ValueError(f'query {first + q}: all {len(pool)} candidates are '
                       'positives of it; give it a pool with others')
  return negative, kind


def draw_several(ranked, sets, positive, positives, pool, seed, first=0,
                 count=1, even=True):
  """`count` different negatives per query -> int64 and int8 [Q, count].

  The first is what `draw` gives; each further one is drawn likewise from what
  is left, by chances of its own.

  Errors: ValueError naming the query whose pool holds too few.
  """
  found = []
  for number in range(count):
    if number:
      taken = found[-1][0]
      left = np.asarray(ranked) != taken[:, None]
      sets = sets._replace(wrong_modality=sets.wrong_modality & left,
                           insufficient=sets.insufficient & left)
      positives = [np.append(own, one) for own, one in zip(positives, taken)]
      for q, own in enumerate(positives):
        if len(np.unique(own)) >= len(pool):
          raise ValueError(
              f'query {first + q}: its pool of {len(pool)} has but {number} '
              f'candidates that are no positives, {count} are wanted; draw '
              'fewer')
    found.append(draw(ranked, sets, positive, positives, pool,
                      seed + (number << 64), first, even))
  return tuple(np.stack(parts, 1) for parts in zip(*found))


def _chances(count, seed, first):
  """Three uniform numbers for each query from `first` on, [count, 3]."""
  bits = np.random.Philox(key=seed)
  bits.advance(first)  # four numbers of 64 bits each
  drawn = np.random.Generator(bits).random((count, 4))
  return drawn[:, :3]


class _Members:
  """Candidates by label, to draw one that is no positive."""

  def __init__(self, pool):
    self._pool = np.asarray(pool)
    self._order = np.argsort(self._pool, kind='stable')
    self._sorted = self._pool[self._order]

  def draw(self, positive, positives, chance):
    """Of the positive's label, else of any; -1 where there is none."""
    positives, label = np.unique(positives), self._pool[positive]
    first, last = (np.searchsorted(self._sorted, label, side)
                   for side in ('left', 'right'))
    alike = self._order[first:last]  # ascending
    own = positives[self._pool[positives] == label]
    if len(own) < len(alike):
      return alike[_nth_other(np.searchsorted(alike, own), len(alike), chance)]
    if len(positives) < len(self._pool):
      return _nth_other(positives, len(self._pool), chance)
    return -1


def _nth_other(taken, size, chance):
  """One of range(size) that is not in `taken`, which ascends."""
  nth = int(chance * (size - len(taken)))
  for place in taken:
    nth += int(place <= nth)
  return nth


def statistics(kind, positive_rank, n_ranks):
  """How many queries have which kind of negative, and where positives are.

  kind: int [Q], or [Q, N] of several each, all of which are counted;
  positive_rank: int [Q] of `split`, with K = n_ranks.
  Returns a flat dict of counts.
  """
  counts = np.bincount(np.ravel(kind), minlength=len(KINDS))
  return {'queries': len(kind), **{
      name: int(n) for name, n in zip(KINDS, counts)},
          'positive_first': int((positive_rank == 1).sum()),
          'positive_beyond_top': int((positive_rank > n_ranks).sum())}
