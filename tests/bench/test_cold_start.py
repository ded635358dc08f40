"""The bench of a new process: its parts, and what a warm one finds."""
import json

import pytest

from jaxret.bench import cold_start
from tests import tiny_index


@pytest.mark.slow  # three processes, one of which compiles
def test_a_warm_process_compiles_nothing(capsys):
  cold_start.main([f'--model={tiny_index.CLIP}', '--rounds=1', '--slowest=3'])
  found = json.loads(capsys.readouterr().out)
  assert found['cold']['hits'] == 0 < found['cold']['programs']
  assert found['warm']['hits'] == found['warm']['programs'] == (
      found['cold']['programs'])
  for kind in ('cold', 'warm'):
    parts = [found[kind][name]['seconds'] for name in cold_start.PARTS]
    assert 0 < sum(parts) < found[kind]['all']['seconds']
  assert len(found['imports']) == 3


def test_a_model_that_is_none_is_said(tmp_path):
  with pytest.raises(ValueError, match='no such directory'):
    cold_start.process('./none', 'a', str(tmp_path))


def test_the_slowest_imports():
  said = ('import time: self [us] | cumulative | imported package\n'
          'import time:       300 |        900 | a\n'
          'import time:      1000 |       1000 |   b.c\n')
  assert cold_start.slowest(said, 1) == {'b.c': 0.001}
  assert cold_start.slowest(said, 9) == {'b.c': 0.001, 'a': 0.0}
