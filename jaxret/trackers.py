"""Trackers of experiments that a training's metrics go to, besides its file.

`config.log.to` names them: 'tensorboard' writes events to tensorboard/ in the
work directory, 'wandb' to the run of Weights & Biases whose id is in wandb.json
there. Process 0 alone writes; a rerun goes on where the last one stopped. A
tracker that fails while a run trains is left out from then on, and said:
metrics.jsonl has everything.
"""
import importlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from jaxret import files, own_files

RECORD = 'wandb.json'


class Tracker(NamedTuple):
  """name: in `config.log.to`. log: (step, {name: number}). close: ends it."""
  name: str
  log: Callable[[int, Mapping[str, float]], None]
  close: Callable[[], None]


class Trackers:
  """All that are asked for; of processes but the first, none.

  names: as of `config.log.to`. start_step: the last one that counts, what was
  written of later steps before a stop is written again. config: flat, of the
  run. first: whether this is process 0.
  """

  def __init__(self, names: Sequence[str], workdir: str | pathlib.Path,
               start_step: int, config: Mapping[str, Any], first: bool = True):
    check(names)
    workdir = pathlib.Path(workdir)
    self._open = [OPENED[name](workdir, start_step, config)
                  for name in names if first]

  def log(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes one step's numbers to each."""
    self._each(lambda one: one.log(step, metrics))

  def close(self) -> None:
    """Ends each; what was written is then there."""
    self._each(lambda one: one.close())

  def _each(self, call):
    for one in list(self._open):
      try:
        call(one)
      except Exception as error:  # a full disk, no network: the run goes on
        self._open.remove(one)
        logging.warning(
            '%s fails (%s: %s) and gets no more of this run; metrics.jsonl has '
            'all', one.name, type(error).__name__,
            str(error).partition('\n')[0])


def check(names: Sequence[str]) -> None:
  """Raises ValueError for a name that is none, or is there twice."""
  for number, name in enumerate(names):
    if name not in OPENED:
      raise ValueError(f'log.to names {name!r}; want '
                       f'{" or ".join(map(repr, OPENED))}, or nothing')
    if name in names[:number]:
      raise ValueError(f'log.to names {name!r} twice; want it once')


def _tensorboard(workdir, start_step, config):
  """Events in tensorboard/; those behind start_step count no more."""
  del config
  writer = _imported('tensorboardX', 'tensorboard').SummaryWriter(
      str(workdir / 'tensorboard'),
      purge_step=start_step + 1 if start_step else None,
      filename_suffix=f'.{start_step}')  # else two of a second are one file
  def log(step, metrics):
    for name, value in metrics.items():
      writer.add_scalar(name, value, step)
    writer.flush()
  return Tracker('tensorboard', log, writer.close)


def _wandb(workdir, start_step, config):
  """The run whose id is in wandb.json, or a new one that is noted there.

  wandb keeps the first of two lines of a step: numbers that are computed again
  are those that are there.
  """
  del start_step
  wandb, path = _imported('wandb', 'wandb'), workdir / RECORD
  if path.is_file():
    name = own_files.read_object(path).get('id')
  else:
    name = os.urandom(4).hex()
    files.write_atomically(path, json.dumps({'id': name}) + '\n')
  try:
    run = wandb.init(
        project='jaxret', id=name, resume='allow', dir=str(workdir),
        name=workdir.absolute().name, config=dict(config))
  except Exception as error:  # no key, no network; before anything is trained
    reason = str(error).partition('\n')[0]
    raise ValueError(
        f"log.to names 'wandb', which does not start ({type(error).__name__}: "
        f'{reason}): call `wandb login`, set WANDB_MODE=offline, or leave it '
        'out') from error
  return Tracker('wandb', lambda step, metrics: run.log(
      dict(metrics), step=step), run.finish)


def _imported(module, extra):
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ValueError(
        f"log.to names {extra!r}, and {module} cannot be imported ({error}): "
        f"pip install -e '.[{extra}]', or leave it out") from error


OPENED = {'tensorboard': _tensorboard, 'wandb': _wandb}
