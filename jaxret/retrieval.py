"""Evaluates embeddings on any list of retrieval tasks."""
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxret import comparisons, metrics, report
from jaxret.data import media, types
from jaxret.scoring.embeddings import similarity
from jaxret.scoring.embeddings import store as embeddings_lib

DENSE_CANDIDATES = 1 << 17  # beyond, only the first places are looked at
NDCG_DEPTH, NDCG_SEARCHED = 10, 100  # more are searched than count, for ties
_DENSE_CELLS = 1 << 25  # scores in memory; 128 MiB
_MARK = re.compile(r'<\|[A-Z]+\|>\s*')


class Encoder(NamedTuple):
  """How one row of results embeds.

  encode: (items, prompt) -> [N, D], unit vectors; a row of NaN leaves its item
    out. fingerprint: flat dict of what embeddings depend on besides the item
    and its prompt: a checksum of the weights, preprocessing.
  """
  encode: embeddings_lib.Encode
  fingerprint: Mapping[str, Any]


class Answers(NamedTuple):
  """What one encoder makes of one task, for what could be embedded of it.

  task: less what was left out. queries, candidates: embeddings, [Q, D] and
  [C, D]. ranks: int64 [Q], 1-based. deepest: later ranks are not known; None
  where all are. ndcg: nDCG@10 of each query, of a task with grades.
  """
  task: types.Task
  queries: embeddings_lib.Rows
  candidates: embeddings_lib.Rows
  ranks: np.ndarray
  deepest: int | None
  ndcg: np.ndarray | None = None


def evaluate(
    tasks: Sequence[types.Task], encoders: Mapping[str, Encoder],
    workdir: str | os.PathLike, dataset: str, split: str = 'test',
    recall_at: Sequence[int] = metrics.RECALL_AT, mesh: Mesh | None = None,
    block_items: int = 1024
    ) -> tuple[dict[str, Any], dict[str, dict[str, Answers]]] | tuple[
        None, None]:
  """Every encoder on every task.

  tasks: with names that differ. encoders: {row: Encoder}; the last one is the
    main row. recall_at: increasing, the depths k of recall. mesh: of this
    process's devices, for the search. block_items: embedded at a time.
  Embeddings are kept in workdir/embeddings, each content once per prompt: a
  killed run goes on where it stopped.

  Returns (results, answers), or (None, None) on other processes than the
  first. results: {'dataset', 'split', 'sizes', 'main_row', 'tasks': {task:
  {'queries', 'candidates', 'chance', 'left_out'}}, task: {row: metrics}};
  answers: {task: {row: Answers}}.
  """
  names = [task.name for task in tasks]
  if len(set(names)) < len(names) or not names:
    raise ValueError(f'the tasks are named {names}; wanted at least one, and '
                     'no name twice')
  stores = {row: embeddings_lib.Embeddings(
      pathlib.Path(workdir) / 'embeddings', encoder.fingerprint)
            for row, encoder in encoders.items()}
  results: dict[str, Any] = {}
  answers: dict[str, dict[str, Answers]] = {}
  for task in tasks:
    answers[task.name] = {}
    for row, encoder in encoders.items():
      queries, candidates = (
          stores[row].rows(items, prompt, encoder.encode, block_items)
          for items, prompt in ((task.queries, task.query_prompt),
                                (task.candidates, task.candidate_prompt)))
      if queries is not None:
        answers[task.name][row] = _answer(
            task, queries, candidates, recall_at[-1], mesh)
    if answers[task.name]:
      results[task.name] = {
          row: _summary(found, recall_at)
          for row, found in answers[task.name].items()}
  if not results:
    return None, None
  return {'dataset': dataset, 'split': split, **_facts(tasks, answers),
          'main_row': list(encoders)[-1], **results}, answers


def _answer(task, queries, candidates, depth, mesh):
  task, queries, candidates = _usable(task, queries, candidates)
  deepest = None
  if task.lists is not None:
    scores = [candidates[indices] @ queries[q:q + 1][0]
              for q, indices in enumerate(task.lists)]
    ranks = metrics.ranks_in_lists(scores, task.lists, task.relevant)
  elif len(candidates) <= DENSE_CANDIDATES:
    ranks = _dense_ranks(task, queries, candidates[:])
  else:
    # One place more than is counted shows whether a tie goes on.
    deepest = depth + 1
    ranks = metrics.ranks_in_top(*similarity.search(
        queries[:], candidates, deepest, mesh, task.excluded), task.relevant)
  return Answers(task, queries, candidates, ranks, deepest,
                 _ndcg(task, queries, candidates, mesh))


def _ndcg(task, queries, candidates, mesh):
  """nDCG of each query from grades, [Q]; ties count against us."""
  if task.grades is None:
    return None
  if task.lists is not None:
    return np.array([
        _ndcg_of_list(candidates[own] @ queries[q:q + 1][0], own,
                      task.relevant[q], task.grades[q])
        for q, own in enumerate(task.lists)])
  scores, indices = similarity.search(
      queries[:], candidates, min(len(candidates), NDCG_SEARCHED), mesh,
      task.excluded)
  grades = np.zeros(indices.shape)
  for row, places, relevant, own in zip(
      grades, indices, task.relevant, task.grades):
    known = dict(zip(relevant.tolist(), own.tolist()))
    row[:] = [known.get(place, 0) for place in places.tolist()]
  order = np.lexsort((grades, -scores))
  return metrics.ndcg_in_top(
      np.take_along_axis(grades, order, 1), task.grades, NDCG_DEPTH)


def _ndcg_of_list(scores, places, relevant, grades):
  """nDCG of one query that is compared with `places` alone."""
  known = dict(zip(relevant.tolist(), np.asarray(grades).tolist()))
  own = np.array([known.get(place, 0) for place in places.tolist()])
  own = own[np.lexsort((own, -scores))][:NDCG_DEPTH]
  return metrics.ndcg_in_top(
      np.pad(own, (0, NDCG_DEPTH - len(own)))[None], [grades], NDCG_DEPTH)[0]


def _dense_ranks(task, queries, candidates):
  size = max(1, _DENSE_CELLS // len(candidates))
  ranks = []
  for start in range(0, len(task.queries), size):
    block = slice(start, start + size)
    scores = _scores(task, queries, candidates,
                     range(len(task.queries))[block])
    ranks.append(metrics.ranks(scores, task.relevant[block]))
  return np.concatenate(ranks)


def _scores(task, queries, candidates, chosen):
  """Scores of the chosen queries, [n, C], -inf where there is no answer."""
  scores = np.array(similarity.similarity(
      queries[np.asarray(chosen)], candidates))
  if task.excluded is not None:
    for row, q in zip(scores, chosen):
      row[task.excluded[q]] = -np.inf
  return scores


def _usable(task, queries, candidates):
  """The task and its embeddings less what could not be embedded."""
  good = [rows.index >= 0 for rows in (queries, candidates)]
  if good[0].all() and good[1].all():
    return task, queries, candidates
  new = np.cumsum(good[1]) - 1
  def fewer(indices):
    indices = np.asarray(indices)
    return new[indices[good[1][indices]]].astype(np.int32)
  relevant = [fewer(indices) for indices in task.relevant]
  kept = [q for q in np.flatnonzero(good[0]) if len(relevant[q])]
  if not kept:
    raise ValueError(f'task {task.name!r}: no query is left whose item and '
                     'answer can be embedded; see skipped.jsonl')
  def chosen(field):
    values = getattr(task, field)
    return values and tuple(fewer(values[q]) for q in kept)
  grades = task.grades and tuple(
      _missed_last(task.grades[q], good[1][np.asarray(task.relevant[q])])
      for q in kept)
  left = types.Task(
      task.name, tuple(task.queries[q] for q in kept),
      tuple(c for c, ok in zip(task.candidates, good[1]) if ok),
      chosen('relevant'), chosen('lists'), chosen('excluded'),
      task.query_prompt, task.candidate_prompt, grades=grades)
  return (left, dataclasses.replace(queries, index=queries.index[kept]),
          dataclasses.replace(candidates, index=candidates.index[good[1]]))


def _missed_last(grades, there):
  """The grades of a query, those of what could not be embedded last."""
  first = np.zeros(len(grades), bool)
  first[:len(there)] = there
  return np.concatenate([np.asarray(grades)[first], np.asarray(grades)[~first]])


def _summary(found, recall_at):
  """As metrics.summary; None for what needs ranks that are not known."""
  numbers = metrics.summary(found.ranks, recall_at=recall_at)
  if found.ndcg is not None:
    numbers['ndcg_at_10'] = 100.0 * float(np.mean(found.ndcg))
  if found.deepest is not None:
    numbers |= {'mean_rank': None, 'mrr': None}
    if np.sort(found.ranks)[len(found.ranks) // 2] > found.deepest:
      numbers['median_rank'] = None
  if found.task.lists is not None:
    numbers['precision_at_1'] = numbers['recall_at_1']
  return numbers


def _facts(tasks, answers):
  facts = {}
  for whole in tasks:
    task = list(answers[whole.name].values())[-1].task
    facts[task.name] = {
        'queries': len(task.queries), 'candidates': len(task.candidates),
        'chance': chance(task), 'left_out': sum(
            len(getattr(whole, side)) - len(getattr(task, side))
            for side in ('queries', 'candidates'))}
    if task.lists is not None:
      facts[task.name]['list_length'] = float(
          np.mean([len(indices) for indices in task.lists]))
  return {'sizes': {'tasks': len(facts)} | {
      side: sum(task[side] for task in facts.values())
      for side in ('queries', 'candidates')}, 'tasks': facts}


def chance(task: types.Task) -> float:
  """R@1 in percent of a random order."""
  shares = np.array([len(np.unique(i)) for i in task.relevant], np.float64)
  if task.lists is not None:
    shares /= [len(i) for i in task.lists]
  elif task.excluded is not None:
    shares /= [len(task.candidates) - len(np.unique(i)) for i in task.excluded]
  else:
    shares /= len(task.candidates)
  return 100.0 * float(np.mean(shares))


def group_means(
    results: Mapping[str, Any], groups: Mapping[str, Sequence[str]],
    metric: str = 'recall_at_1'
    ) -> dict[str, dict[str, dict[str, float | None]]]:
  """{row: {group: {'mean', 'tasks', 'of'}}} and 'overall', plain means.

  groups: {group: names of its tasks}; those that were not evaluated are left
  out of the mean, which `tasks` of `of` tells.
  """
  groups = dict(groups) | {'overall': [n for g in groups.values() for n in g]}
  means: dict[str, dict[str, dict[str, float | None]]] = {}
  for name, tasks in groups.items():
    for row in next(iter(results[t] for t in results['tasks'])):
      values = [results[task][row][metric] for task in tasks
                if task in results['tasks']]
      means.setdefault(row, {})[name] = {
          'mean': float(np.mean(values)) if values else None,
          'tasks': len(values), 'of': len(tasks)}
  return means


def differences(
    answers: Mapping[str, Mapping[str, Answers]],
    pairs: Sequence[tuple[str, str]],
    recall_at: Sequence[int] = metrics.RECALL_AT
    ) -> dict[str, list[dict[str, Any]]]:
  """{task: paired differences of its rows}, as comparisons.compare has them.

  pairs: (row, baseline). Without MRR where ranks beyond a depth are not known;
  rows that left out other queries are not compared.
  """
  found = {}
  for name, rows in answers.items():
    measured = [f'recall_at_{k}' for k in recall_at]
    if all(of_row.deepest is None for of_row in rows.values()):
      measured.append('mrr')
    ids = {row: [item.id for item in of_row.task.queries]
           for row, of_row in rows.items()}
    found[name] = comparisons.compare(
        {row: of_row.ranks for row, of_row in rows.items()},
        [(row, baseline) for row, baseline in pairs
         if row in ids and ids[row] == ids.get(baseline)], measured)
  return found


def gallery(answers: Mapping[str, Mapping[str, Answers]], n_missed: int = 3,
            n_found: int = 3, image_px: int = report.TILE_PX
            ) -> list[report.GalleryQuery]:
  """Queries with the first five answers of every row, for the report."""
  queries, show = [], Show(image_px)
  for name, rows in answers.items():
    main = list(rows)[-1]
    ids = {row: [item.id for item in of_row.task.queries]
           for row, of_row in rows.items()}
    if any(ids[row] != ids[main] for row in rows):
      rows = {main: rows[main]}
    task = rows[main].task
    def show_query(q, queries=task.queries):
      return show(queries[q])
    queries += report.gallery_queries(
        name, show_query,
        {row: _gallery_row(of_row, show) for row, of_row in rows.items()},
        n_missed, n_found)
  return queries


def _gallery_row(answers, show):
  candidates = answers.task.candidates
  def score(query, indices):
    return answers.candidates[np.asarray(indices)] @ (
        answers.queries[query:query + 1][0])
  return report.Row(answers.ranks, answers.task.relevant,
                    functools.partial(_top, answers),
                    lambda index: show(candidates[index]), score)


def all_queries(answers: Mapping[str, Mapping[str, Answers]]
                ) -> list[report.Queries]:
  """All queries of every task, with 0 where a row left one out."""
  found = []
  for name, rows in answers.items():
    items = list(rows.values())[-1].task.queries
    ranks = {}
    for row, of_row in rows.items():
      known = {item.id: rank for item, rank in zip(
          of_row.task.queries, of_row.ranks)}
      ranks[row] = np.array([known.get(item.id, 0) for item in items])
    found.append(report.Queries.of_items(
        name, items, ranks, deepest=list(rows.values())[-1].deepest,
        candidates=list(rows.values())[-1].task.candidates))
  return found


def _top(answers, q):
  """Indices of the first five candidates of a query, best first."""
  task, relevant = answers.task, answers.task.relevant[q]
  if task.lists is not None:
    indices = task.lists[q]
    scores = answers.candidates[indices] @ answers.queries[q:q + 1][0]
    return indices[metrics.top(
        scores, np.flatnonzero(np.isin(indices, relevant)), 5)]
  if answers.deepest is None:
    scores = _scores(task, answers.queries, answers.candidates[:], [q])[0]
    return metrics.top(scores, relevant, 5)
  excluded = task.excluded and task.excluded[q:q + 1]
  return similarity.search(answers.queries[q:q + 1], answers.candidates, 5,
                           exclude=excluded)[1][0]


class Show:
  """Items as the gallery shows them; each medium is read once."""

  def __init__(self, image_px: int):
    self._image_px = image_px
    self._frames: dict[bytes, np.ndarray | None] = {}

  def __call__(self, item: types.Item) -> report.Shown:
    text = item.text and _MARK.sub('', item.text)
    source = next((m for m in (item.video, item.image) if m is not None), None)
    if source is None:
      return report.Shown(item.id, text)
    key = embeddings_lib.key(item, None)
    if key not in self._frames:
      self._frames[key] = self._read(item)
    frames = self._frames[key]
    if frames is None:
      return report.Shown(item.id, text or item.id)
    return report.Shown(item.id, text, frames, report.path_of(source))

  def _read(self, item):
    kind = 'video' if item.video is not None else 'image'
    medium = getattr(item, kind)
    try:
      if kind == 'video':
        medium = media.as_videos(medium, item.id)[0]
      elif isinstance(medium, tuple):
        medium = medium[0]
      if isinstance(medium, np.ndarray):
        return medium[None] if kind == 'image' else medium
      one = types.Item(item.id, **{kind: medium})
      return media.load_frames(one, 4 if kind == 'video' else 1,
                               self._image_px)
    except ValueError:  # media.MediaError is one
      return None  # shown by its id
