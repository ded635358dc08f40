"""The bench of an evaluation at a small size: what it prints, and is it right.
"""
import json
import subprocess
import sys

import pytest

from jaxret.bench import evaluation


@pytest.mark.parametrize('strength', [100, 800])
def test_prints_one_json_object_last(capsys, tmp_path, strength):
  evaluation.main(['--items=60', '--texts=90', f'--strength={strength}',
                   '--depth=5', '--temperatures=1', '--check=30',
                   f'--directory={tmp_path}'])
  numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert numbers['wrong_queries'] == 0 and numbers['rows'] == 10
  assert list(numbers['parts']) == [
      'choose', 'rows', 'hubness', 'sweep', 'differences', 'runs',
      'all_queries']
  assert numbers['seconds'] == sum(
      part['seconds'] for part in numbers['parts'].values())
  assert numbers['matrix_bytes'] == 60 * 90 * 4
  for recall in numbers['recall_at_1'].values():
    assert 5 < recall < 80 if strength == 100 else recall > 99
  assert not list(tmp_path.iterdir())


_TAKES_64_MIB = """
import time
import numpy as np
from jaxret.bench import evaluation
with evaluation._peak() as peak:
  block = np.ones(8 << 20)
  for _ in range(500):
    if peak.get('bytes', block.nbytes) > block.nbytes // 2:
      break
    time.sleep(0.01)
print(peak.get('bytes'))
"""


def test_the_peak_of_memory_is_what_was_taken():
  # In a process of its own: in this one memory of other tests may be given
  # back at the same time.
  printed = subprocess.run([sys.executable, '-c', _TAKES_64_MIB], check=True,
                           capture_output=True, text=True).stdout
  if evaluation._anonymous() is None:
    assert printed.strip() == 'None'
  else:
    assert 32 << 20 < int(printed) < 128 << 20
