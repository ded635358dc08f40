"""The approximate index is compared with an exact search that is right."""
import json

import numpy as np

from tests import tiny_index

tiny_index.lancedb()


def test_it_is_compared_with_the_exact_search(capsys):
  from jaxret.bench import nearest
  nearest.main(['--rows=600', '--width=16', '--queries=5'])
  found = json.loads(capsys.readouterr().out)
  assert 0.8 <= found['recall_at_10'] <= 1
  assert found['rows'] == 600 and found['ann_s'] > 0 and found['exact_s'] > 0


def test_rows_are_unit_vectors_around_centres():
  from jaxret.bench import nearest
  rows = nearest.drawn(3000, 32, 1)
  np.testing.assert_allclose((rows ** 2).sum(1), 1, atol=1e-5)
  best = np.sort(rows @ rows.T, axis=1)[:, -2]
  assert best.mean() > 0.4  # many have a neighbour, as no random ones do
  np.testing.assert_array_equal(rows, nearest.drawn(3000, 32, 1))
