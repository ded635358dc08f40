"""The check of the search bench finds a wrong answer, and only that."""
import numpy as np

from jaxret.bench import search


def right(queries, candidates, k):
  scores = queries @ candidates.T
  indices = np.argsort(-scores, 1, kind='stable')[:, :k]
  return np.take_along_axis(scores, indices, 1), indices


def test_right_answers_are_no_mismatch_and_wrong_ones_are():
  queries, candidates = search.rows(6, 8, 0), search.rows(40, 8, 1)
  scores, indices = right(queries, candidates, 3)
  n_wrong, error = search.mismatches(
      queries, candidates, (scores, indices), 6)
  assert n_wrong == 0 and error < 1e-6
  spoilt = indices.copy()
  spoilt[2, 0] = (indices[2, 0] + 1) % 40
  assert search.mismatches(queries, candidates, (scores, spoilt), 6)[0] == 1


def test_equal_scores_may_come_in_any_order():
  queries = search.rows(2, 4, 0)
  candidates = np.repeat(search.rows(3, 4, 1), 2, axis=0)  # pairs of equals
  scores, indices = right(queries, candidates, 2)
  assert search.mismatches(
      queries, candidates, (scores, indices[:, ::-1]), 2)[0] == 0


def test_rows_are_unit_vectors_of_their_seed():
  rows = search.rows(5, 16, 7)
  np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
  np.testing.assert_array_equal(rows, search.rows(5, 16, 7))


def test_a_group_of_the_bare_matmul_fits_in_memory():
  for n in (1, 1000, 10 ** 6, 10 ** 10):
    rows = search.matmul_rows(n)
    assert rows >= 1 and (rows == 1 or rows * n * 4 <= 2 ** 30)
