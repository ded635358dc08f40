"""Scoring that is killed again and again ends with the same bits."""
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.scoring.likelihood import killed_run

ROOT = pathlib.Path(__file__).resolve().parents[3]
KILLS = 10


def start(directory, topk):
  return subprocess.Popen(
      [sys.executable, '-m', 'tests.scoring.likelihood.killed_run',
       str(directory), str(topk)],
      cwd=ROOT, stderr=subprocess.DEVNULL)


def scored(directory):
  """How many cells of the two matrices are finished."""
  total = 0
  for name in ('text_given_video', 'video_given_text'):
    path = directory / f'{name}.npy'
    if path.exists():
      total += int((~np.isnan(np.load(path, mmap_mode='r'))).sum())
  return total


@pytest.mark.slow
@pytest.mark.parametrize('topk', [
    pytest.param(0, marks=pytest.mark.campaign), 12])
def test_killed_at_random_points_and_rerun(tmp_path, topk):
  undisturbed = start(tmp_path / 'whole', topk)
  rng = np.random.default_rng(int(time.time()))
  keep, killed, kills = killed_run.kept(topk), tmp_path / 'killed', []
  cells = 2 * (40 * 40 if keep is None else int(keep.sum()))
  for kill in range(KILLS):
    # Somewhere in the next share of the work, or between two files of it.
    goal = rng.uniform(kill, kill + 1) / KILLS * cells
    process = start(killed, topk)
    while scored(killed) < goal and process.poll() is None:
      time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    kills.append(scored(killed))
  assert start(killed, topk).wait() == 0
  assert undisturbed.wait() == 0
  assert sum(0 < done < cells for done in kills) >= KILLS // 2, kills
  # A kill while a file is made leaves a hidden part, which nothing reads.
  names, found = (sorted(
      path.name for path in directory.iterdir() if path.name[0] != '.')
                  for directory in (tmp_path / 'whole', killed))
  assert names == found
  for name in names:
    assert (tmp_path / 'whole' / name).read_bytes() == (
        killed / name).read_bytes(), (name, kills)
