"""New orders of a query's candidates, against sorting one by one."""
import numpy as np
import pytest

from jaxret.scoring.embeddings import rerank


def test_orders_are_those_of_a_stable_sort():
  rng = np.random.default_rng(0)
  scores = np.sort(rng.random((20, 10)), 1)[:, ::-1]
  p_true = rng.integers(0, 4, (20, 10)) / 4  # many are equal
  for mode, weight in (('replace', 1.0), ('interpolate', 0.3)):
    got = rerank.reorder(scores, p_true, mode, weight)
    for q in range(20):
      value = [p if mode == 'replace' else s + weight * p
               for s, p in zip(scores[q], p_true[q])]
      assert got[q].tolist() == sorted(range(10), key=lambda k: -value[k])


def test_candidates_that_were_not_seen_follow_by_their_own_score():
  p_true = [[0.1, np.nan, 0.9, np.nan]]
  for scores, want in (([[4, 3, 2, 1]], [2, 0, 1, 3]),
                       ([[4, 1, 2, 3]], [2, 0, 3, 1])):
    assert rerank.reorder(scores, p_true)[0].tolist() == want


def test_modes_are_checked():
  with pytest.raises(ValueError, match="rerank mode 'x' is unknown"):
    rerank.reorder([[1.0]], [[1.0]], 'x')
