"""Draws ranks; `DONE` tells what was run, `STOP_AT` kills one of the runs."""
import pathlib

import numpy as np

from jaxret import checkpoint
from jaxret.data import sets
from jaxret.report import queries

DONE: list[tuple[str, str, str]] = []
STOP_AT: list[int] = []  # how many runs are left until one is stopped


def train_and_evaluate(config, workdir):
  checkpoint.claim_workdir(workdir, config)
  split = config.eval.split
  if STOP_AT:
    STOP_AT[0] -= 1
    if STOP_AT[0] < 0:
      raise KeyboardInterrupt
  if config.skill:
    assert pathlib.Path(config.notes).read_text() == 'read me'
  ids = sets.get(config.data.name).load(
      config.data, 'test' if config.get('peek') else split)
  rng = np.random.default_rng([config.seed, len(split)])
  hard = rng.random(len(ids))
  ranks = np.where(hard < 0.3 + config.skill, 1, 7)
  queries.save(workdir, {'dataset': 'words', 'split': split}, [queries.Queries(
      'words', ids, ids, {'ours': ranks, 'theirs': ranks}, 'ours',
      pool='words')])
  pathlib.Path(workdir, 'report.html').write_text('')
  DONE.append((config.task, pathlib.Path(workdir).parent.name, split))


def evaluate(config, workdir):
  assert checkpoint.has_results(workdir)
  train_and_evaluate(config, workdir)


def caption(config, workdir):
  checkpoint.claim_workdir(workdir, config)
  sets.get(config.data.name).load(config.data, config.eval.split)
  pathlib.Path(workdir, 'notes.txt').write_text('read me')
