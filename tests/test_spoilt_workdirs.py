"""Damaged files of work directories: the same results, or a line that says so.
"""
import collections
import json
import os
import subprocess
import sys

import pytest

from tests import spoilt_workdirs, tiny_runs

pytestmark = [pytest.mark.slow, pytest.mark.campaign]
MANY = 40  # every so manyth case; all: python -m tests.spoilt_workdirs


def test_no_damage_of_a_workdir_gives_other_results_or_a_traceback(tmp_path):
  environment = {**os.environ,
                 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  done = subprocess.run(
      [sys.executable, '-m', 'tests.spoilt_workdirs', 'blim', tmp_path,
       '7', str(MANY)], cwd=tiny_runs.ROOT,
      env=environment, capture_output=True, text=True, timeout=900)
  assert done.returncode == 0, done.stderr[-2000:]
  found = [json.loads(line) for line in done.stdout.splitlines()
           if line.startswith('{"file"')]
  counts = collections.Counter(one['verdict'] for one in found)
  assert set(counts) <= set(spoilt_workdirs.GOOD), [
      one for one in found if one['verdict'] not in spoilt_workdirs.GOOD]
  assert sum(counts.values()) > 15 and len(counts) == 2
