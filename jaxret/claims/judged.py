"""From the ranks that runs kept to verdicts: what claims.json says.

It holds no time, machine or path: the same runs give the same bytes.
"""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxret import comparisons
from jaxret.claims import effects, experiments, listed
from jaxret.report import queries as queries_lib

DECIMALS = 4  # of numbers that are written


class Asked(NamedTuple):
  """Who asked, and among what; numbers of several rows are paired by it."""
  ids: tuple[str, ...]
  pool: str


class Kept:
  """What runs kept of a split; each file is read once."""

  def __init__(self, runs: Iterable[experiments.Run], split: str):
    self.split = split
    self._runs: dict[str, list[experiments.Run]] = {}
    for run in runs:
      self._runs.setdefault(run.experiment.name, []).append(run)
    self._files: dict[str, queries_lib.Kept] = {}

  def values(self, name: str, task: str, metric: str
             ) -> tuple[Asked, np.ndarray]:
    """The metric of each query of a task, [S, Q]; name: 'experiment/row'."""
    experiment, _, row = name.partition('/')
    found = [self._values(run, row, task, metric)
             for run in self._runs[experiment]]
    asked = found[0][0]
    for run, (other, _) in zip(self._runs[experiment], found):
      if other.ids != asked.ids:
        raise ValueError(f'{run.name}: its queries of {task} are not those of '
                         f'{self._runs[experiment][0].name}')
    return asked, np.stack([values for _, values in found])

  def _values(self, run, row, task, metric):
    if run.name not in self._files:
      self._files[run.name] = queries_lib.load(
          run.workdir, run.ranks(self.split).name)
    found = _entry(self._files[run.name].directions, task, f'{run.name}: task')
    asked = Asked(tuple(found.ids), found.pool)
    if metric in found.numbers:
      return asked, _entry(found.numbers[metric], row,
                           f'{run.name}: row of {metric}')
    ranks = _entry(found.ranks, self._row(found.ranks, row),
                   f'{run.name}: row of {task}')
    depth = metric.removeprefix('recall_at_')
    if (ranks < 1).any() or found.deepest is not None and (
        not depth.isdigit() or int(depth) > found.deepest):
      raise ValueError(f'{run.name}: {metric} of {task} is not known of every '
                       'query')
    return asked, comparisons.values_of(ranks, metric)

  def _row(self, rows, row):
    """On validation the weights are those that are best there, as is said.

    A run that reports validation has no other split to choose them on; on test
    its row has the same ones.
    """
    chosen = f'{row}_oracle'
    return chosen if self.split == experiments.VALIDATION and (
        chosen in rows) else row


def _entry(found, name, what):
  if name not in found:
    raise ValueError(f'{what} {name!r} is not there: use one of '
                     f'{", ".join(found)}')
  return found[name]


def judged(found: listed.Listed, runs: Sequence[experiments.Run], split: str
           ) -> dict[str, Any]:
  """What claims.json says of the claims, from runs that are done."""
  kept = Kept(runs, split)
  claims = [_claim(claim, kept) for claim in found.claims]
  return {'split': split, 'seeds': len({run.seed for run in runs}),
          'confidence': effects.CONFIDENCE,
          'verdicts': {verdict: sum(one['verdict'] == verdict for one in claims)
                       for verdict in effects.VERDICTS}, 'claims': claims}


def _claim(claim, kept):
  made = [_comparison(claim, one, kept) for one in claim.comparisons]
  return {
      'id': claim.id, 'paper': claim.paper, 'claim': claim.claim,
      'for': claim.counts_for, 'against': claim.counts_against,
      'verdict': effects.together([one['verdict'] for one in made]),
      'metric': claim.metric, 'direction': claim.direction, 'unit': claim.unit,
      'margin': claim.margin, 'tried': claim.tried,
      'experiments': claim.experiments(), 'comparisons': made}


def _comparison(claim, one, kept):
  parts, means, n_queries = parts_of(claim, one, kept)
  found = effects.effect(parts)
  return {
      'says': one.says, 'row': one.row, 'baseline': one.baseline,
      'tasks': list(one.tasks), 'less': list(one.less), 'queries': n_queries,
      **{name: _rounded(value) for name, value in means.items()},
      'effect': _rounded(found.difference),
      'ci95': [_rounded(found.low), _rounded(found.high)],
      'of_seeds': [_rounded(value) for value in found.of_seeds],
      'verdict': effects.verdict(found, claim.margin)}


def parts_of(claim: listed.Claim, one: listed.Comparison, kept: Kept
             ) -> tuple[list[effects.Part], Mapping[str, float], int]:
  """The differences in favour of a claim, the means of both, how many queries.

  The means are of `tasks`, without what is subtracted of `less`.
  """
  tasks = (*one.tasks, *one.less)
  others = one.baseline_tasks or tasks
  parts, values, n_queries = [], [], 0
  for place, (task, other) in enumerate(zip(tasks, others)):
    asked, row = kept.values(one.row, task, claim.metric)
    asked_too, baseline = kept.values(one.baseline, other, claim.metric)
    _check_paired(claim, one, task, asked, asked_too, task == other)
    own = place < len(one.tasks)
    weight = 1 / len(one.tasks) if own else -1 / len(one.less)
    parts.append(effects.Part(
        weight * listed.DIRECTIONS[claim.direction], row - baseline))
    n_queries += len(asked.ids)
    if own:
      values.append((row.mean(), baseline.mean()))
  mean, baseline_mean = np.mean(values, axis=0)
  return parts, {'value': float(mean),
                 'baseline_value': float(baseline_mean)}, n_queries


def _check_paired(claim, one, task, asked, asked_too, same_task):
  """Other queries cannot be paired; other candidates are another task."""
  if asked.ids != asked_too.ids or same_task and asked.pool != asked_too.pool:
    raise ValueError(
        f'claim {claim.id}, {one.says}: {one.row} and {one.baseline} have '
        f'other queries or candidates of {task}, which cannot be paired')


def _rounded(value):
  return round(float(value), DECIMALS) + 0.0  # no -0.0
