"""The bench of mining at a small size: what it prints, and that it is right."""
import json

import numpy as np
import pytest

from jaxret.bench import mining, search
from jaxret.scoring.embeddings import similarity


@pytest.mark.parametrize('queries', [20, 50])
def test_prints_one_json_object_last(capsys, monkeypatch, queries):
  """In one tile of queries and in three, the last one filled up."""
  monkeypatch.setattr(similarity, 'QUERY_ROWS', 20)
  monkeypatch.setattr(search, '_MATMUL_CELLS', 1 << 15)  # 16 queries a group
  mining.main(['--candidates=2000', f'--queries={queries}',
               '--width=16', '--k=10', '--offset=5', '--check=20'])
  numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert numbers['wrong_queries'] == 0
  assert numbers['max_abs_difference'] < 1e-6
  assert numbers['ratio'] == numbers['seconds'] / numbers['baseline_seconds']
  assert sum(numbers['kinds'].values()) == queries
  assert numbers['pool_bytes'] == 2000 * 16 * 4


def test_pool_gives_the_same_rows_each_time(tmp_path, monkeypatch):
  monkeypatch.setattr(mining, '_ROWS_AT_ONCE', 64)
  pool = mining._Pool(tmp_path / 'pool', 150, 8)
  blocks = list(pool)
  assert [len(block) for block in blocks] == [64, 64, 22]
  np.testing.assert_array_equal(
      np.concatenate(blocks), np.concatenate(list(pool)))
  assert len(np.unique(np.concatenate(blocks), axis=0)) == 150
