"""Retrieval from pools that mix modalities, with an instruction per query."""
import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from jaxret.data import entries, types

MODALITIES = ('text', 'image', 'image,text')


@dataclasses.dataclass(frozen=True)
class Task:
  """Queries whose answers are found in one pool, or in all of a benchmark.

  instructions[q]: what query q is told, '' = nothing.
  relevant[q]: {candidate id: grade above 0}; the ids may be of any pool, or of
    none: such a one is never found. It is empty where the answers are not
    public, and of a query that has no answer.
  pool: the name of its own pool. modality: of its answers.
  depth: k of the number that is reported. is_composed: whether its queries
    count as multi-modal ones.
  excluded[q]: ids of candidates that are never an answer. None = none.
  """
  name: str
  queries: tuple[types.Item, ...]
  instructions: tuple[str, ...]
  relevant: tuple[dict[str, int], ...]
  pool: str
  modality: str
  depth: int = 5
  is_composed: bool = False
  excluded: tuple[tuple[str, ...], ...] | None = None


class Benchmark(NamedTuple):
  """Tasks and their pools.

  pools: {name: candidates}; all of them together are the union pool, each
    candidate as often as it stands in them.
  union: whether every query is also compared with the union. measure: what is
    reported at each task's depth, 'hit_rate', 'ndcg' or 'map'. left_out: what
    its files hold besides and cannot be used.
  """
  name: str
  pools: dict[str, tuple[types.Item, ...]]
  tasks: tuple[Task, ...]
  union: bool = True
  measure: str = 'hit_rate'
  left_out: tuple[types.LeftOut, ...] = ()


class Query(NamedTuple):
  """One training query before its answer is chosen.

  instructions: {modality of the answer: what may be said to ask for it}.
  positives: ids of all answers that are labelled. excluded: ids that are
  neither answers nor negatives, such as the picture that is asked with.
  """
  item: types.Item
  instructions: dict[str, tuple[str, ...]]
  positives: tuple[str, ...]
  excluded: tuple[str, ...] = ()


class TrainingSet(NamedTuple):
  """Training queries and the pool that their answers and negatives are in.

  labels[c]: which part of the pool candidate c is of: a random negative, in
  want of a better one, comes from the part that the positive is in. left_out:
  what its files hold besides and cannot be used.
  """
  queries: tuple[Query, ...]
  pool: tuple[types.Item, ...]
  labels: tuple[str, ...]
  left_out: tuple[types.LeftOut, ...] = ()


class Pair(NamedTuple):
  """A training query, told `instruction`, and its answer; as pairs.Pair.

  row: of its query in the training set. negative: no answer to it, a tuple of
  several, or None. scores: a teacher's, of the answer and each negative.
  """
  query: types.Item
  candidate: types.Item
  target_modality: str
  negative: types.Item | tuple[types.Item, ...] | None = None
  instruction: str = ''
  row: int = 0
  scores: tuple[float, ...] | None = None


class Negatives(NamedTuple):
  """What mining chose for each query: places in the pool.

  positive: int64 [Q]. negative: int64 [Q], or [Q, N] of several. scores: float
  [Q, 1 + N], a teacher's of the positive and the negatives, or None.
  """
  positive: np.ndarray
  negative: np.ndarray
  scores: np.ndarray | None = None


class Pairs:
  """A TrainingSet as pairs: len(), [i] -> Pair.

  Which answer and which wording of the instruction query i gets depends on
  the seed and i; with `negatives` the answer is the one they were mined for.
  """

  def __init__(self, training_set, seed, negatives=None):
    self._set, self._negatives = training_set, negatives
    self._positive = (negatives.positive if negatives is not None else
                      chosen_positives(training_set, seed))
    self._wording = np.random.default_rng((seed, 1)).random(len(self))

  @property
  def left_out(self):
    """What the files of the training set hold and cannot be used."""
    return self._set.left_out

  def __len__(self):
    return len(self._set.queries)

  def __getitem__(self, i):
    query, pool = self._set.queries[i], self._set.pool
    candidate = pool[self._positive[i]]
    kind = modality(candidate)
    said = query.instructions[kind]
    negative = scores = None
    if self._negatives is not None:
      found = np.atleast_1d(self._negatives.negative[i])
      negative = tuple(pool[place] for place in found)
      negative = negative if len(negative) > 1 else negative[0]
      if self._negatives.scores is not None:
        scores = tuple(self._negatives.scores[i].tolist())
    return Pair(query.item, candidate, kind, negative,
                said[int(self._wording[i] * len(said))], i, scores)


def chosen_positives(training_set, seed):
  """The answer that each query is trained with: place in the pool, [Q]."""
  chance = np.random.default_rng((seed, 0)).random(len(training_set.queries))
  place = places(training_set.pool)
  return np.array([
      place[query.positives[int(share * len(query.positives))]]
      for query, share in zip(training_set.queries, chance)], np.int64)


def places(pool):
  """{id: place} of a pool."""
  return {item.id: place for place, item in enumerate(pool)}


def read_negatives(path, training_set):
  """The Negatives that `mine` wrote; ValueError where they do not fit.

  A line has "query", "positive" and "negative", an id or a list of ids, and
  perhaps "scores", a teacher's of the positive and of each negative; all lines
  alike.
  """
  place, found, scores = places(training_set.pool), [], []
  for row, (line, entry) in enumerate(entries.json_lines(path)):
    query, positive = (entries.field(path, row, entry, key)
                       for key in ('query', 'positive'))
    several = isinstance(entry.get('negative'), list)
    negatives = entries.field(
        path, row, entry, 'negative', list if several else str)
    negatives = negatives if several else [negatives]
    wanted = (training_set.queries[row].item.id
              if row < len(training_set.queries) else None)
    if query != wanted or not all(isinstance(one, str) and one in place
                                  for one in (positive, *negatives)):
      raise ValueError(
          f'{path}, line {line}: got the query {query}, wanted '
          f'{wanted or "no more"}, with ids of its pool: mine again for '
          'these data')
    found.append([place[one] for one in (positive, *negatives)])
    scores.append(entry.get('scores'))
    _check_scores(path, line, found, scores)
  if len(found) != len(training_set.queries):
    raise ValueError(f'{path}: got {len(found)} queries, wanted '
                     f'{len(training_set.queries)}: mine again for these data')
  found = np.array(found, np.int64)
  negative = found[:, 1:]
  return Negatives(found[:, 0],
                   negative if negative.shape[1] > 1 else negative[:, 0],
                   None if scores[0] is None else np.array(scores, np.float32))


def _check_scores(path, line, found, scores):
  """Raises ValueError for a last line that is unlike the first one."""
  if not len(found[0]) == len(found[-1]) > 1:
    raise ValueError(
        f'{path}, line {line}: got {len(found[-1]) - 1} negatives, wanted '
        f'{len(found[0]) - 1 or "one at least"} as in the first line')
  one = scores[-1]
  fine = isinstance(one, list) and len(one) == len(found[0]) and all(
      type(score) in (int, float) and np.isfinite(score) for score in one)
  if scores[0] is None and one is None or scores[0] is not None and fine:
    return
  raise ValueError(
      f'{path}, line {line}: got the scores {one!r:.60}, wanted '
      + ('none, as in the first line' if scores[0] is None else
         f'{len(found[0])} numbers, of the positive and each negative'))


def modality(item):
  """'text', 'image' or 'image,text'."""
  return _MODALITY[item.image is not None, item.text is not None]


_MODALITY = {(False, True): 'text', (True, False): 'image',
             (True, True): 'image,text'}


def codes(items):
  """The modalities as places in MODALITIES, int8 [N]."""
  code = functools.cache(MODALITIES.index)
  return np.fromiter((code(modality(item)) for item in items), np.int8,
                     len(items))
