"""Evaluates embeddings in pools of several modalities and in their union.

Each pool is embedded once and read once: all queries are searched for in it,
its own tasks are answered by that, and the union's answers are the best of all
pools'. What is finished lies in the workdir, embeddings block by block and
searches pool by pool; a killed run goes on from there.
"""
import pathlib
from typing import NamedTuple

import numpy as np

from jaxret import metrics
from jaxret.data.sets import mixed
from jaxret.scoring.embeddings import searches
from jaxret.scoring.embeddings import store as embeddings_lib

SEARCHED = 51  # ranks that are known: CIRCO submits 50, one more shows ties
RECALL_AT = (1, 5, 10)
POOLS = ('union', 'local')


class Ranking(NamedTuple):
  """What one encoder finds for the queries of one task.

  kept: int64 [Q], the task's queries that could be embedded. scores: float32
  [Q, K], descending. candidates: int64 [Q, K], places in the union of all
  pools; -1 = none left.
  """
  kept: np.ndarray
  scores: np.ndarray
  candidates: np.ndarray


class Union:
  """The candidates of all pools, one after the other."""

  def __init__(self, benchmark):
    self._pools = benchmark.pools
    sizes = [len(pool) for pool in benchmark.pools.values()]
    self.starts = dict(zip(benchmark.pools, np.cumsum([0, *sizes]).tolist()))
    self.modality = np.concatenate(
        [mixed.codes(pool) for pool in benchmark.pools.values()])
    wanted = {name for task in benchmark.tasks for field in (
        task.relevant, task.excluded or ()) for own in field for name in own}
    self._places = {}
    for start, pool in zip(self.starts.values(), benchmark.pools.values()):
      for place, item in enumerate(pool, start):
        if item.id in wanted:
          self._places.setdefault(item.id, []).append(place)

  def __len__(self):
    return len(self.modality)

  def __getitem__(self, place):
    name = [name for name, start in self.starts.items() if start <= place][-1]
    return self._pools[name][place - self.starts[name]]

  def pool(self, name):
    """Its candidates."""
    return self._pools[name]

  def places(self, ids, pool=None):
    """Where candidates with these ids lie, ascending; of one pool if named."""
    found = np.sort(np.array(
        [p for name in ids for p in self._places.get(name, ())], np.int64))
    if pool is None:
      return found
    start = self.starts[pool]
    return found[(found >= start) & (found < start + len(self._pools[pool]))]


def rank(benchmark, union, encoder, workdir, mesh=None, block_items=1024):
  """{(task, 'union' or 'local'): Ranking} of one encoder.

  encoder: a retrieval.Encoder; None as a prompt means a candidate. Returns
  None on other processes than the first.
  """
  store = embeddings_lib.Embeddings(
      pathlib.Path(workdir) / 'embeddings', encoder.fingerprint)
  queries = [store.rows_by_prompt(
      task.queries, task.instructions, encoder.encode, block_items)
             for task in benchmark.tasks]
  pools = {name: store.rows(pool, None, encoder.encode, block_items)
           for name, pool in benchmark.pools.items()}
  if queries[0] is None:
    return None
  kept = [np.flatnonzero(rows.index >= 0) for rows in queries]
  asked = _Asked(benchmark, queries, kept)
  best, found = None, {}
  for name, rows in pools.items():
    chosen = asked.of_pool(None if benchmark.union else name)
    if not len(chosen):
      continue
    top = searches.search(
        pathlib.Path(workdir) / 'searches', rows, asked.index[chosen],
        SEARCHED, mesh, [union.places(ids, name) - union.starts[name]
                         for ids in asked.excluded(chosen)])
    top = top[0], np.where(top[1] < 0, -1, top[1] + union.starts[name])
    for t, task in enumerate(benchmark.tasks):
      if task.pool == name:
        own = asked.task[chosen] == t
        found[task.name, 'local'] = Ranking(kept[t], *(x[own] for x in top))
    if benchmark.union:
      best = top if best is None else _best_of(best, top)
  if benchmark.union:
    for t, task in enumerate(benchmark.tasks):
      found[task.name, 'union'] = Ranking(
          kept[t], *(x[asked.task == t] for x in best))
  return found


class _Asked:
  """The queries of all tasks that could be embedded, in one sequence.

  task: int [Q], which task each is of. place: in the store of embeddings.
  """

  def __init__(self, benchmark, queries, kept):
    self._tasks, self._kept = benchmark.tasks, np.concatenate(kept)
    self.task = np.repeat(np.arange(len(kept)), [len(own) for own in kept])
    self.index = np.concatenate(
        [rows.index[own] for rows, own in zip(queries, kept)])

  def of_pool(self, name):
    """Which queries are searched for in a pool; None = all."""
    wanted = [name is None or task.pool == name for task in self._tasks]
    return np.flatnonzero(np.array(wanted)[self.task])

  def excluded(self, chosen):
    """The ids that are no answers to each of the chosen queries."""
    return [() if self._tasks[t].excluded is None else
            self._tasks[t].excluded[q]
            for t, q in zip(self.task[chosen], self._kept[chosen])]


def _best_of(left, right):
  """The best K of two rankings [Q, K]; of equal ones the left comes first."""
  scores, places = (np.concatenate(both, 1) for both in zip(left, right))
  order = np.argsort(-scores, 1, kind='stable')[:, :left[0].shape[1]]
  return (np.take_along_axis(scores, order, 1),
          np.take_along_axis(places, order, 1))


def ranks(union, task, ranking, pool=None):
  """1-based ranks of the best relevant candidates, [Q]; see ranks_in_top.

  A relevant candidate that is not in the pool, or could not be embedded, is
  one that is not found.
  """
  return metrics.ranks_in_top(ranking.scores, ranking.candidates, [
      union.places(task.relevant[q], pool) for q in ranking.kept])


def summary(union, task, ranking, pool=None, measure='hit_rate'):
  """The numbers of one row: as metrics.summary, and two of mixed pools.

  reported: in percent, by `measure` the hit rate, nDCG or mean average
  precision at task.depth. wrong_modality_at_1: percent of queries whose first
  answer is of another modality than they ask for.
  """
  found = ranks(union, task, ranking, pool)
  numbers = metrics.summary(found, recall_at=RECALL_AT)
  deepest = ranking.scores.shape[1]
  if (found > deepest).any():
    numbers |= {'mean_rank': None, 'mrr': None}
    if np.sort(found)[len(found) // 2] > deepest:
      numbers['median_rank'] = None
  return numbers | {
      'reported': _reported(task, found, union, ranking, measure),
      'wrong_modality_at_1': 100.0 * float(np.mean(
          first_is_of_another(union, task, ranking)))}


def first_is_of_another(union, task, ranking):
  """Whether a query's first answer is of another modality, bool [Q]."""
  wanted = mixed.MODALITIES.index(task.modality)
  return union.modality[ranking.candidates[:, 0]] != wanted


def _reported(task, found, union, ranking, measure):
  if measure == 'hit_rate':
    return metrics.recall_at_k(found, task.depth)
  grades = np.zeros(ranking.candidates.shape)
  relevant = [task.relevant[q] for q in ranking.kept]
  for row, (places, own) in enumerate(zip(ranking.candidates, relevant)):
    for name, grade in own.items():
      grades[row, np.isin(places, union.places([name]))] = grade
  if measure == 'ndcg':
    values = metrics.ndcg_in_top(
        grades, [list(own.values()) for own in relevant], task.depth)
  else:
    values = metrics.average_precision_in_top(
        grades > 0, np.array([len(own) for own in relevant]), task.depth)
  return 100.0 * float(np.mean(values))


def chance(union, task, pool=None):
  """R@1 in percent of a random order."""
  size = len(union.pool(pool)) if pool else len(union)
  found = [len(union.places(own, pool)) for own in task.relevant]
  return 100.0 * float(np.mean(found)) / size
