"""`claims.toml`: what is claimed, and by which experiments it is judged.

A claim compares a row of one experiment with one of the same or another, query
by query. An experiment is a config file with what it changes.
"""
import dataclasses
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

PATH = pathlib.Path(__file__).with_name('claims.toml')
PAPERS = {'blim': 'BLiM', 'unite': 'UNITE', 'mm_embed': 'MM-Embed',
          'leccr': 'LECCR'}
DIRECTIONS = {'higher': 1.0, 'lower': -1.0}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A row of an experiment against a baseline, on the same queries.

  says: what it is, for tables. row, baseline: 'experiment/row'. tasks:
  directions or tasks, whose means are averaged. baseline_tasks: where the
  baseline answered the same queries under other names. less: tasks whose mean
  is subtracted, of a claim that an effect is larger on some tasks.
  """
  says: str
  row: str
  baseline: str
  tasks: tuple[str, ...]
  baseline_tasks: tuple[str, ...] = ()
  less: tuple[str, ...] = ()

  def experiments(self) -> list[str]:
    """The names of the experiments that it looks at."""
    return list(dict.fromkeys(
        name.partition('/')[0] for name in (self.row, self.baseline)))


@dataclasses.dataclass(frozen=True)
class Claim:
  """What a paper says; all of its comparisons must speak for it.

  claim: in our words. counts_for, counts_against: what would. metric:
  'recall_at_1', 'mrr', or the name of another number that runs keep of every
  query. direction: which of its values are better. unit: of an effect. margin:
  an effect above minus this counts for the claim: of one that something does
  no harm. tried: what was done so that it can show here, and what did not help.
  """
  id: str
  paper: str
  claim: str
  counts_for: str
  counts_against: str
  metric: str
  direction: str
  unit: str
  comparisons: tuple[Comparison, ...]
  margin: float = 0.0
  tried: str = ''

  def experiments(self) -> list[str]:
    """The names of the experiments that it looks at."""
    return list(dict.fromkeys(
        name for one in self.comparisons for name in one.experiments()))


@dataclasses.dataclass(frozen=True)
class Experiment:
  """One config, trained with each seed, or once where `once` is set.

  config: file of configs/, or a path; ':variant' behind it. change: {dotted
  field: value}. sections: {name: fields}, sections that the config lacks. uses:
  {dotted field: 'experiment/path'}, what another experiment, that runs once,
  leaves in its workdir. task: what it does first. What runs once is compared
  with nothing, and has no part in the test split where it trains.
  """
  name: str
  about: str
  config: str
  change: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  sections: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  uses: Mapping[str, str] = dataclasses.field(default_factory=dict)
  task: str = 'train_and_evaluate'
  once: bool = False

  def used(self) -> set[str]:
    """The experiments whose results it reads."""
    return {path.partition('/')[0] for path in self.uses.values()}

  def seeds(self, n_seeds: int) -> range:
    """The seeds that it is run with."""
    return range(1 if self.once else n_seeds)


@dataclasses.dataclass(frozen=True)
class Listed:
  """Claims, and {name: Experiment} of all that they need, in order of use."""
  claims: tuple[Claim, ...]
  experiments: Mapping[str, Experiment]

  def of_papers(self, papers: Sequence[str]) -> 'Listed':
    """The claims of some papers, with the experiments that they need.

    Raises ValueError for a paper of which there is no claim.
    """
    known = list(dict.fromkeys(claim.paper for claim in self.claims))
    for paper in papers:
      if paper not in known:
        raise ValueError(f'there are no claims of the paper {paper!r}: use '
                         f'{", ".join(known)}')
    claims = tuple(one for one in self.claims if one.paper in papers)
    return Listed(claims, _needed(claims, self.experiments))


def read(path: pathlib.Path | None = None) -> Listed:
  """What a file lists (PATH); ValueError naming the entry that is wrong."""
  path = path or PATH
  with path.open('rb') as file:
    try:
      found = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
      raise ValueError(f'{path}: no TOML: {error}') from error
  experiments = {
      name: _made(Experiment, f'{path}: experiment {name}', name=name, **fields)
      for name, fields in found.get('experiments', {}).items()}
  claims = tuple(_claim(path, i, fields)
                 for i, fields in enumerate(found.get('claims', ()), 1))
  ids = [claim.id for claim in claims]
  twice = [name for name in ids if ids.count(name) > 1]
  if twice:
    raise ValueError(f'{path}: the claim {twice[0]} stands there twice')
  for claim in claims:
    _check(f'{path}: claim {claim.id}', claim, experiments)
  return Listed(claims, _needed(claims, experiments))


def _claim(path, number, fields):
  where = f'{path}: claim {fields.get("id", number)}'
  names = {'for': 'counts_for', 'against': 'counts_against'}
  fields = {names.get(key, key): value for key, value in fields.items()}
  fields['comparisons'] = tuple(
      _made(Comparison, f'{where}, comparison {i}', **{
          key: tuple(value) if isinstance(value, list) else value
          for key, value in one.items()})
      for i, one in enumerate(fields.get('comparisons', ()), 1))
  return _made(Claim, where, **fields)


def _made(kind, where, **fields):
  """A dataclass of fields whose names and types are checked."""
  known = {field.name: field for field in dataclasses.fields(kind)}
  unknown = sorted(set(fields) - set(known))
  lacking = [name for name, field in known.items()
             if field.default is dataclasses.MISSING
             and field.default_factory is dataclasses.MISSING
             and name not in fields]
  if unknown or lacking:
    raise ValueError(
        f'{where} has no {lacking[0]}' if lacking else
        f'{where} has {unknown[0]!r}: use {", ".join(known)}')
  for name, value in fields.items():
    want = {str: str, float: float, bool: bool}.get(known[name].type)
    if want and not isinstance(value, want):
      raise ValueError(f'{where}: {name} is {value!r}, want a {want.__name__}')
  return kind(**fields)


def _check(where, claim, experiments):
  if claim.paper not in PAPERS:
    raise ValueError(f'{where} is of the paper {claim.paper!r}: use one of '
                     f'{", ".join(PAPERS)}')
  if claim.direction not in DIRECTIONS:
    raise ValueError(f'{where}: direction is {claim.direction!r}, want '
                     f'{" or ".join(DIRECTIONS)}')
  if not claim.comparisons:
    raise ValueError(f'{where} has no comparisons')
  if claim.margin < 0:
    raise ValueError(f'{where}: margin is {claim.margin}, want 0 or more')
  for one in claim.comparisons:
    for name in (one.row, one.baseline):
      if name.partition('/')[0] not in experiments or not name.partition(
          '/')[2]:
        raise ValueError(f'{where} compares {name!r}: want EXPERIMENT/ROW, of '
                         f'{", ".join(experiments)}')
      if experiments[name.partition('/')[0]].once:
        raise ValueError(f'{where} compares {name!r}, which runs once: want '
                         'experiments of several seeds')
    if not one.tasks or one.baseline_tasks and (
        len(one.baseline_tasks) != len(one.tasks + one.less)):
      raise ValueError(f'{where}, {one.says}: want one task at least, and as '
                       'many baseline_tasks as tasks and less, or none')


def _needed(claims, experiments):
  """Those that claims look at, behind those that they use."""
  found = {}
  def add(name):
    for used in experiments[name].uses.values():
      provider = used.partition('/')[0]
      if provider not in experiments or not experiments[provider].once:
        raise ValueError(f'experiment {name} uses {used!r}: want EXPERIMENT/'
                         'PATH, of an experiment that has once = true')
      if provider not in found:
        add(provider)
    found.setdefault(name, experiments[name])
  for claim in claims:
    for name in claim.experiments():
      add(name)
  return found
