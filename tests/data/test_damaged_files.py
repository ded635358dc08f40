"""Thousands of damaged files: each is read or is a MediaError, none hangs."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import damaged_files

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(result, least):
  assert result['foreign'] == []
  assert result['files'] >= least
  # The damage is neither too little nor too much to say anything.
  for kind in 'image', 'video':
    share = result[f'{kind} read'] / (
        result[f'{kind} read'] + result[f'{kind} MediaError'])
    assert 0.1 < share < 0.9
  assert result['slowest'][0] < damaged_files.LONGEST_S


def test_damage_is_never_foreign():
  check(damaged_files.read_all(4), 150)


@pytest.mark.slow
def test_damage_of_thousands_is_never_foreign():
  """In a process of its own, which a crash of a decoder would end."""
  ended = subprocess.run(
      [sys.executable, '-m', 'tests.damaged_files', '100'], cwd=ROOT,
      capture_output=True, text=True, timeout=1800, check=False)
  assert ended.returncode == 0, ended.stderr[-2000:]
  check(json.loads(ended.stdout), 3000)


def test_damage_is_the_same_in_every_run():
  whole = bytes(range(256)) * 4
  one, other = ([damaged_files.damaged(whole, np.random.default_rng(i))
                 for i in range(50)] for _ in range(2))
  assert one == other and len(set(one)) == 50 and whole not in one
