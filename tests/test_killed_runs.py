"""Whole runs that are killed at random moments end with the same bits."""
import json
import os
import subprocess
import sys

import pytest

from tests import killed_runs

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


def test_a_handful_of_kills_changes_nothing(tmp_path):
  """The campaign over all systems: python -m tests.killed_runs 40 DIRECTORY."""
  environment = {**os.environ,
                 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  done = subprocess.run(
      [sys.executable, '-m', 'tests.killed_runs', '3', tmp_path, '--systems',
       'blim', '--kills_a_run', '3'],
      cwd=killed_runs.ROOT, env=environment, capture_output=True, text=True,
      timeout=900)
  assert done.returncode == 0, done.stdout + done.stderr[-2000:]
  *runs, total = done.stdout.splitlines()
  assert total == '3 kills; runs that ended otherwise: 0'
  assert sum(len(json.loads(run)['kills']) for run in runs) == 3


def test_the_comparison_sees_one_bit(tmp_path):
  """Of a score, of an embedding, of what was mined, of the results."""
  import numpy as np

  from jaxret.data import types
  from jaxret.scoring import store
  from jaxret.scoring.embeddings import store as embeddings
  from tests import finished_runs
  def write(workdir, value, text):
    matrix = store.Store(workdir / 'scores' / 'test', {}).matrix('a', (2, 2))
    matrix[:] = value
    matrix.flush()
    embeddings.Embeddings(workdir / 'embeddings', {}).rows(
        [types.Item('x', text='x')], None, lambda *_: np.full((1, 2), value))
    (workdir / 'mined').mkdir()
    (workdir / 'mined' / 'a.jsonl').write_text(
        json.dumps({'query': text, 'positive': '1', 'negative': '2'}) + '\n')
    (workdir / 'results.json').write_text(text)
    return finished_runs.numbers(workdir)
  whole = write(tmp_path / 'whole', 1.0, 'a')
  assert not finished_runs.differences(
      write(tmp_path / 'again', 1.0, 'a'), whole)
  other = np.nextafter(np.float32(1), np.float32(2))
  assert finished_runs.differences(
      write(tmp_path / 'other', other, 'b'), whole) == [
          'embeddings', 'mined/a.jsonl', 'results.json', 'scores/test/a.npy']
