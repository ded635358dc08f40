"""Metrics against a double loop, hand numbers and ir-measures."""
import time

import numpy as np
import pytest
from scipy import stats

from jaxret import metrics


def random_problem(seed, n_queries=23, n_candidates=31, n_values=None):
  """Scores [Q, C] (of few distinct values if asked) and relevant sets."""
  generator = np.random.default_rng(seed)
  scores = generator.normal(size=(n_queries, n_candidates))
  if n_values:
    scores = np.round(scores * n_values / 4)
  relevant = [generator.choice(n_candidates, generator.integers(1, 5), False)
              for _ in range(n_queries)]
  return scores.astype(np.float32), relevant


def loop_rank(scores, relevant):
  """1 + the others at least as good as the best relevant one, in a loop."""
  best = max(scores[c] for c in relevant)
  rank = 1
  for candidate, score in enumerate(scores):
    if candidate not in relevant and score >= best:
      rank += 1
  return rank


@pytest.mark.parametrize('n_values', [None, 2, 6])
def test_ranks_equal_a_double_loop(n_values, monkeypatch):
  scores, relevant = random_problem(0, n_values=n_values)
  wanted = [loop_rank(row, set(r)) for row, r in zip(scores, relevant)]
  np.testing.assert_array_equal(metrics.ranks(scores, relevant), wanted)
  monkeypatch.setattr(metrics, '_BLOCK_CELLS', 100)  # several blocks of rows
  np.testing.assert_array_equal(metrics.ranks(scores, relevant), wanted)


@pytest.mark.parametrize('n_values', [None, 3])
def test_released_ranks_equal_a_loop_over_argsorts(n_values):
  scores, relevant = random_problem(1, n_values=n_values)
  wanted = []
  for row, indices in zip(scores, relevant):
    order = np.argsort(row, kind='stable')[::-1].tolist()
    wanted.append(1 + min(order.index(i) for i in indices))
  got = metrics.ranks(scores, relevant, ties='released')
  np.testing.assert_array_equal(got, wanted)


def test_ties_count_against_us():
  scores = np.array([[1., 1., 1., 1.], [0., 2., 2., 1.], [5., 5., 1., 0.]])
  relevant = [[0], [2], [0, 1]]
  np.testing.assert_array_equal(metrics.ranks(scores, relevant), [4, 2, 1])
  released = metrics.ranks(scores, relevant, ties='released')
  np.testing.assert_array_equal(released, [4, 1, 1])


def test_relevant_may_repeat_and_scores_may_be_infinite():
  scores = np.array([[-np.inf, -np.inf, 1.], [np.inf, 2., np.inf]])
  got = metrics.ranks(scores, [[0, 0], [2, 2, 1]])
  np.testing.assert_array_equal(got, [3, 2])


def test_numbers_by_hand():
  ranks = np.array([1, 2, 4, 11])
  assert metrics.recall_at_k(ranks, 1) == 25
  assert metrics.recall_at_k(ranks, 5) == 75
  assert metrics.median_rank(ranks) == 3
  assert metrics.mean_rank(ranks) == 4.5
  assert metrics.mrr(ranks) == pytest.approx((1 + 1/2 + 1/4 + 1/11) / 4)


def test_precision_and_gain_by_hand():
  # Relevant at the ranks 1 and 3 of 4, and at rank 2 of 4.
  hits = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
  average_precision = [(1 + 2 / 3) / 2, 1 / 2]
  assert metrics.average_precision_in_top(hits, np.array([2, 1]), 4) == (
      pytest.approx(average_precision))
  relevant = [[1, 1], [1]]
  ideal = 1 + 1 / np.log2(3)
  gains = [(1 + 1 / np.log2(4)) / ideal, 1 / np.log2(3)]
  assert metrics.ndcg_in_top(hits, relevant, 10) == pytest.approx(gains)
  assert metrics.ndcg_in_top(hits, relevant, 1) == pytest.approx([1, 0])


def test_agrees_with_ir_measures():
  ir_measures = pytest.importorskip('ir_measures')
  scores, relevant = random_problem(2)
  graded = [{int(c): 1 + int(c) % 3 for c in r} for r in relevant]
  qrels = {f'q{q}': {f'c{c}': grade for c, grade in own.items()}
           for q, own in enumerate(graded)}
  run = {f'q{q}': {f'c{c}': float(s) for c, s in enumerate(row)}
         for q, row in enumerate(scores)}
  oracle = ir_measures.calc_aggregate(
      [ir_measures.nDCG @ 5, ir_measures.nDCG @ 10, ir_measures.AP,
       ir_measures.RR, ir_measures.Success @ 1, ir_measures.Success @ 10],
      qrels, run)
  ranks = metrics.ranks(scores, relevant)
  # As the runs do: from the grades at each rank. All candidates are ranked
  # and k is all, where both ways to divide an average precision agree.
  grades = np.array([[own.get(int(c), 0) for c in np.argsort(-row)]
                     for own, row in zip(graded, scores)])
  gains = [list(own.values()) for own in graded]
  n_relevant = np.array([len(own) for own in graded])
  ours = {
      ir_measures.nDCG @ 5: metrics.ndcg_in_top(grades, gains, 5).mean(),
      ir_measures.nDCG @ 10: metrics.ndcg_in_top(grades, gains, 10).mean(),
      ir_measures.AP: metrics.average_precision_in_top(
          grades > 0, n_relevant, grades.shape[1]).mean(),
      ir_measures.RR: metrics.mrr(ranks),
      ir_measures.Success @ 1: metrics.recall_at_k(ranks, 1) / 100,
      ir_measures.Success @ 10: metrics.recall_at_k(ranks, 10) / 100,
  }
  for measure, value in oracle.items():
    assert ours[measure] == pytest.approx(value, abs=1e-6), measure


def test_interval_covers_the_truth_as_often_as_it_says():
  """Of 95 % intervals of Bernoulli samples, about 95 % hold the true mean."""
  generator = np.random.default_rng(0)
  held = []
  for trial in range(300):
    values = generator.random(200) < 0.4
    low, high = metrics.bootstrap_interval(values, n_resamples=400, seed=trial)
    held.append(low <= 40 <= high)
  assert 0.90 < np.mean(held) < 0.99


def test_interval_is_seeded_and_in_percent():
  values = np.arange(100) < 30
  first = metrics.bootstrap_interval(values, seed=3)
  assert first == metrics.bootstrap_interval(values, seed=3)
  assert first != metrics.bootstrap_interval(values, seed=4)
  assert 15 < first[0] < 30 < first[1] < 45


def test_summary_has_the_contract_keys():
  row = metrics.summary(np.array([1, 1, 3, 20]))
  assert list(row) == ['recall_at_1', 'recall_at_5', 'recall_at_10',
                       'median_rank', 'mean_rank', 'mrr', 'recall_at_1_ci95']
  assert (row['recall_at_1'], row['recall_at_5']) == (50, 75)
  low, high = row['recall_at_1_ci95']
  assert 0 <= low <= 50 <= high <= 100


def test_ranks_in_lists_by_hand():
  scores = [[.9, .5, .5], [.2, .2], [.3], [.1, .7, .4]]
  lists = [[4, 7, 2], [0, 3], [5], [9, 1, 6]]
  relevant = [[2], [3], [5], [6, 1]]
  # The tie of 7 and 2 counts against 2, that of 0 and 3 against 3.
  np.testing.assert_array_equal(
      metrics.ranks_in_lists(scores, lists, relevant), [3, 2, 1, 1])


def test_ranks_in_lists_of_everything_are_ranks():
  scores, relevant = random_problem(7, n_values=4)
  everything = [np.random.default_rng(q).permutation(scores.shape[1])
                for q in range(len(scores))]
  got = metrics.ranks_in_lists(
      [row[i] for row, i in zip(scores, everything)], everything, relevant)
  np.testing.assert_array_equal(got, metrics.ranks(scores, relevant))


def test_precision_in_lists_agrees_with_ir_measures():
  ir_measures = pytest.importorskip('ir_measures')
  scores, relevant = random_problem(9, n_queries=60, n_candidates=200)
  generator = np.random.default_rng(9)
  lists = [np.union1d(r, generator.choice(200, 90, False)) for r in relevant]
  run = {f'q{q}': {f'c{c}': float(scores[q, c]) for c in own}
         for q, own in enumerate(lists)}
  qrels = {f'q{q}': {f'c{c}': 1 for c in r} for q, r in enumerate(relevant)}
  oracle = ir_measures.calc_aggregate(
      [ir_measures.P @ 1, ir_measures.Success @ 50, ir_measures.RR], qrels, run)
  ranks = metrics.ranks_in_lists(
      [scores[q, own] for q, own in enumerate(lists)], lists, relevant)
  row = metrics.summary(ranks, recall_at=(1, 5, 10, 50))
  assert row['recall_at_1'] == pytest.approx(100 * oracle[ir_measures.P @ 1])
  assert row['recall_at_50'] == pytest.approx(
      100 * oracle[ir_measures.Success @ 50])
  assert row['mrr'] == pytest.approx(oracle[ir_measures.RR], abs=1e-6)
  assert 0 < row['recall_at_1'] < row['recall_at_50'] < 100


@pytest.mark.parametrize('n_values', [None, 3])
def test_ranks_in_top_never_flatter(n_values):
  scores, relevant = random_problem(8, n_values=n_values)
  exact = metrics.ranks(scores, relevant)
  order = np.argsort(-scores, 1, kind='stable')
  for k in (1, 4, 12, scores.shape[1] + 2):
    indices = np.full((len(scores), k), -1)
    values = np.full((len(scores), k), -np.inf, np.float32)
    n = min(k, scores.shape[1])
    indices[:, :n] = order[:, :n]
    values[:, :n] = np.take_along_axis(scores, order[:, :n], 1)
    got = metrics.ranks_in_top(values, indices, relevant)
    for mine, true in zip(got, np.minimum(exact, k + 1)):
      assert mine == true or mine == k + 1 > true
      assert mine == true or n_values or true == k  # it may go on after k
    if k > scores.shape[1]:
      np.testing.assert_array_equal(got, exact)


def test_top_is_the_order_that_ranks_count_in():
  scores, relevant = random_problem(5, n_values=3)
  ranks = metrics.ranks(scores, relevant)
  for row, indices, rank in zip(scores, relevant, ranks):
    order = metrics.top(row, indices, len(row))
    assert sorted(order) == list(range(len(row)))
    assert np.all(np.diff(row[order]) <= 0)
    assert rank == 1 + min(np.flatnonzero(np.isin(order, indices)))


def test_hubness_numbers():
  scores = np.array([[3., 1., 0.], [2., 1., 0.], [2., 0., 1.], [0., 0., 5.]])
  counts = metrics.first_counts(scores)
  np.testing.assert_array_equal(counts, [3, 0, 1])
  assert metrics.skewness([2, 2, 2]) == 0
  assert metrics.skewness([0, 0, 0, 4]) == pytest.approx(2 / np.sqrt(3))
  assert metrics.skewness([0, 4, 4, 4]) == pytest.approx(-2 / np.sqrt(3))


@pytest.mark.parametrize('k', [1, 4, 40])
@pytest.mark.parametrize('n_values', [None, 3])
def test_occurrences_by_sorted_lists(k, n_values, monkeypatch):
  """Ties go to the earlier candidate; what was left out never counts."""
  scores, _ = random_problem(3, n_values=n_values)
  scores[4, 2:] = scores[5, :-1] = -np.inf
  wanted = np.zeros(scores.shape[1], int)
  for row in scores.tolist():
    for c in sorted(range(len(row)), key=lambda c: -row[c])[:k]:
      wanted[c] += row[c] > -np.inf
  np.testing.assert_array_equal(metrics.occurrences(scores, k), wanted)
  monkeypatch.setattr(metrics, '_BLOCK_CELLS', 100)
  np.testing.assert_array_equal(metrics.occurrences(scores, k), wanted)
  if k == 1:
    np.testing.assert_array_equal(metrics.first_counts(scores), wanted)


def test_hubness_agrees_with_scipy():
  random = np.random.default_rng(0)
  scores = random.normal(size=(60, 40)) + random.gamma(1, 0.5, 40)
  order = np.argsort(-scores, 1)
  counts = {k: np.bincount(order[:, :k].ravel(), minlength=40)
            for k in (1, 10)}
  assert metrics.hubness(scores) == {
      'skewness_at_1': pytest.approx(stats.skew(counts[1])),
      'skewness_at_10': pytest.approx(stats.skew(counts[10])),
      'never_first': pytest.approx(100 * np.mean(counts[1] == 0)),
      'most_often_first': counts[1].max()}
  assert stats.skew(counts[10]) > 0.1


def test_any_exact_zero_is_recall_zero_as_released():
  scores, relevant = random_problem(6)
  assert metrics.released_recall(scores, relevant)['recall_at_10'] > 0
  scores[3, 4] = 0
  assert set(metrics.released_recall(scores, relevant).values()) == {0.0}


@pytest.mark.parametrize('change, message', [
    (lambda s, r: (np.where(np.arange(23)[:, None] == 7, np.nan, s), r),
     'query 7 contain NaN'),
    (lambda s, r: (s, r[:-1]), '22 entries'),
    (lambda s, r: (s, r[:-1] + [[]]), 'query 22 has no relevant'),
    (lambda s, r: (s, r[:-1] + [[31]]), 'query 22 has the relevant .* 31'),
    (lambda s, r: (s[0], r), 'shape'),
])
def test_bad_input_is_named(change, message):
  scores, relevant = change(*random_problem(7))
  with pytest.raises(ValueError, match=message):
    metrics.ranks(scores, relevant)


def test_large_matrices_are_quick():
  n = 5000
  scores = np.random.default_rng(0).random((n, n), np.float32)
  start = time.process_time()
  row = metrics.summary(metrics.ranks(scores, np.arange(n)[:, None]))
  assert time.process_time() - start < 3
  assert row['recall_at_10'] == pytest.approx(0.2, abs=0.2)


def test_sum_of_recalls_of_hand_numbers():
  """Ranks 1, 3, 7, 20 and 1, 2: 25 + 50 + 75 and 50 + 100 + 100."""
  total = metrics.sum_of_recalls(np.array([1, 3, 7, 20]), np.array([1, 2]))
  assert total == pytest.approx(400)


def test_a_query_without_an_answer_has_nothing_found():
  """As trec_eval counts one whose judgements are all 0."""
  ir_measures = pytest.importorskip('ir_measures')
  grades = np.array([[0, 1], [0, 0], [2, 0]], np.float64)
  assert metrics.ndcg_in_top(grades, [[1], [], [2]], 2).tolist() == [
      pytest.approx(1 / np.log2(3)), 0, 1]
  assert metrics.average_precision_in_top(
      grades > 0, np.array([1, 0, 1]), 2).tolist() == [0.5, 0, 1]
  run = {f'q{q}': {'a': 2.0, 'b': 1.0} for q in range(3)}
  oracle = ir_measures.calc_aggregate([ir_measures.nDCG @ 2], {
      'q0': {'b': 1}, 'q1': {'a': 0}, 'q2': {'a': 2, 'b': -1}}, run)
  assert oracle[ir_measures.nDCG @ 2] == pytest.approx(
      metrics.ndcg_in_top(grades, [[1], [], [2]], 2).mean())
