"""A run of an experiment: its config, its workdir, and the ranks that it gives.

Each is a normal run in a workdir of its own, WORKDIR/<experiment>/seed-<n>,
which goes on where it was stopped. What it says of a split is kept beside it
in ranks_<split>.npz: with that a run is done.
"""
import contextlib
import gc
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from jaxret import config_files, files, methods, provenance, workdir_lock
from jaxret.claims import listed
from jaxret.report import queries

VALIDATION, TEST = 'validation', 'test'


class Run(NamedTuple):
  """An experiment with one seed, in the directory of all experiments."""
  experiment: listed.Experiment
  seed: int
  root: pathlib.Path

  @property
  def name(self) -> str:
    return f'{self.experiment.name}/seed-{self.seed}'

  @property
  def workdir(self) -> pathlib.Path:
    return self.root / self.experiment.name / f'seed-{self.seed}'

  def ranks(self, split: str) -> pathlib.Path:
    """The file with what it says of a split."""
    return self.workdir / f'ranks_{split}.npz'

  def is_done(self, split: str) -> bool:
    """Whether there is nothing left to do on a split.

    What only trains, for others to begin with, has no part in the test split.
    """
    if not self.gives_ranks and self.experiment.task == 'train_and_evaluate':
      split = VALIDATION
    return (self.ranks(split) if self.gives_ranks
            else self.workdir / f'{split}.done').is_file()

  @property
  def gives_ranks(self) -> bool:
    """Whether it evaluates; others leave something that experiments use."""
    return not self.experiment.once


def runs(found: listed.Listed, n_seeds: int, root: pathlib.Path) -> list[Run]:
  """All runs, those that others use first; seed after seed."""
  order = [Run(experiment, seed, root)
           for experiment in found.experiments.values()
           for seed in experiment.seeds(n_seeds)]
  return sorted(order, key=lambda run: run.seed)


def config_of(run: Run, split: str) -> ConfigDict:
  """The config of a run that is evaluated on a split.

  Weights that are chosen are chosen on validation. Raises ValueError, naming
  the experiment, for a field that the config file does not have.
  """
  experiment = run.experiment
  config = config_files.load(_spec(experiment.config))
  with config.unlocked():
    for name, fields in experiment.sections.items():
      if name in config:
        raise ValueError(f'experiment {experiment.name}: {experiment.config} '
                         f'has a section {name} already: use change')
      config[name] = ConfigDict(_plain(fields))
  given = {**experiment.change, 'seed': run.seed, **{
      field: str((run.root / _of_seed(path)).absolute())
      for field, path in experiment.uses.items()}}
  for field, value in given.items():
    _set(experiment, config, field, _plain(value))
  config.task = experiment.task
  if split == TEST and config.task == 'train_and_evaluate':
    config.task = 'evaluate'
  if 'splits' in config.eval:
    config.eval.splits = tuple(dict.fromkeys((VALIDATION, split)))
  else:
    config.eval.split = split
  return config


def _spec(name):
  if '/' in name:
    return name
  stem, _, variant = name.partition(':')
  return f'configs/{stem}.py' + (f':{variant}' if variant else '')


def _of_seed(path):
  """'experiment/path' -> where the one seed of it has that."""
  name, _, inner = path.partition('/')
  return pathlib.Path(name) / 'seed-0' / inner


def _plain(value):
  """Arrays of TOML as the tuples of a config."""
  if isinstance(value, list):
    return tuple(map(_plain, value))
  if isinstance(value, dict):
    return {key: _plain(inner) for key, inner in value.items()}
  return value


def _set(experiment, config, field, value):
  owner, name = _owner(config, field)
  if name not in owner:
    raise ValueError(
        f'experiment {experiment.name}: {experiment.config} has no field '
        f'{field!r}' + config_files.suggest(field, config_files.fields(config)))
  try:
    owner[name] = value
  except TypeError as error:
    raise ValueError(f'experiment {experiment.name}: {field}: {error}'
                     ) from error


def _owner(config, field):
  """(the section that has a field, its name there).

  The section of a training takes every field of the config itself.
  """
  *sections, name = field.split('.')
  trainings = {*config.get('before', ()), *config.get('compare', ())}
  if sections and sections[0] in trainings:
    whole, _ = _owner(config, field.partition('.')[2])
    own = config[sections[0]]
    for section in sections[1:]:
      if section not in own:
        own[section] = ConfigDict()
      own = own[section]
    if name not in own and name in whole:
      own[name] = whole[name]
    return own, name
  owner = config
  for section in sections:
    owner = owner[section] if section in owner else ConfigDict()
  return owner, name


def do(run: Run, split: str) -> None:
  """Trains a run, if need be, evaluates it on a split and keeps the ranks."""
  config = config_of(run, split)
  with (workdir_lock.held(run.workdir), _quiet(),
        provenance.timed(run.workdir)):
    _share_media(run)
    methods.task(config.method, config.task)(config, str(run.workdir))
    if run.gives_ranks:
      found = queries.load(run.workdir)
      if found.split != split:
        raise ValueError(f'{run.workdir}: got the ranks of {found.split}, '
                         f'wanted those of {split}')
      with files.replacing(run.ranks(split)) as partial:
        shutil.copyfile(run.workdir / queries.NAME, partial)
    else:
      files.write_atomically(run.workdir / f'{split}.done', '')
  # What is compiled is kept on disk, see campaign; frames are not.
  jax.clear_caches()
  gc.collect()


def _share_media(run):
  """Takes over which media decode, which the first seed has tried.

  All seeds see the same corpus; a record says of which files it is.
  """
  found = run._replace(seed=0).workdir / 'media'
  own = run.workdir / 'media'
  for record in sorted(found.glob('*.json')):
    if not (own / record.name).is_file():
      own.mkdir(parents=True, exist_ok=True)
      with files.replacing(own / record.name) as partial:
        shutil.copyfile(record, partial)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """The tables of a run are for whoever follows it; the output has claims."""
  with contextlib.redirect_stdout(sys.stderr):
    yield
