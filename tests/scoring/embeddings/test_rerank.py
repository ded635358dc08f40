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


def test_log_odds_count_as_far_as_they_differ_from_what_is_said_of_all():
  scores = np.array([[0.5, 0.4, 0.3, 0.2]])
  odds = np.array([[-1.0, 2.0, np.nan, 5.0]])
  wanted = scores + 0.1 * np.array([[-3.0, 0.0, 0.0, 3.0]])  # less their mean
  for shift in (0.0, 4.0):
    got = rerank.with_log_odds(scores, 1 / (1 + np.exp(-odds - shift)), 0.1)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
  np.testing.assert_array_equal(rerank.with_log_odds(scores, odds, 0), scores)
  one = [[np.nan, 0.9, np.nan, np.nan]]  # there is nothing to differ from
  np.testing.assert_array_equal(rerank.with_log_odds(scores, one, 1), scores)
  sure = rerank.log_odds(np.float32([0, 1, 0.5]))
  np.testing.assert_allclose(sure, [-13.8, 13.8, 0], atol=0.1)
