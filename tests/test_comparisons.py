"""Paired differences against every resample there is, scipy and a coin."""
import itertools
import time

import numpy as np
import pytest
from scipy import stats

from jaxret import comparisons


def every_mean(difference):
  """The mean of each equally likely resample of [S, Q], by enumeration."""
  seeds, queries = difference.shape
  return np.array([
      np.mean([[difference[s, q] for q in chosen] for s in drawn])
      for drawn in itertools.product(range(seeds), repeat=seeds)
      for chosen in itertools.product(range(queries), repeat=queries)])


@pytest.mark.parametrize('shape', [(1, 5), (2, 4), (3, 3)])
def test_resamples_are_drawn_as_often_as_they_are_likely(shape):
  """Ends of the interval and p-value by the whole distribution."""
  generator = np.random.default_rng(shape[0])
  values, baseline = generator.normal(size=(2, *shape)) + [[[0.5]], [[0]]]
  found = comparisons.paired(
      *(np.squeeze(x, 0) if shape[0] == 1 else x for x in (values, baseline)),
      n_resamples=100_000)
  means = every_mean(values - baseline)
  assert found.difference == pytest.approx((values - baseline).mean())
  for end, share in ((found.low, 0.025), (found.high, 0.975)):
    assert (means < end - 1e-9).mean() - 0.003 <= share
    assert (means <= end + 1e-9).mean() + 0.003 >= share
  wanted = min(1, 2 * min((means <= 0).mean(), (means >= 0).mean()))
  assert found.p_value == pytest.approx(wanted, abs=0.01)  # 3 of its deviations
  assert (found.better, found.worse) == (
      (values > baseline).sum(), (values < baseline).sum())


def test_interval_is_scipys():
  """scipy.stats.bootstrap of paired samples, within the noise of draws."""
  generator = np.random.default_rng(0)
  baseline = 1 / generator.integers(1, 30, 300)
  values = (baseline + 1 / generator.integers(1, 30, 300)) / 2
  found = comparisons.paired(values, baseline, 20_000)
  wanted = stats.bootstrap(
      (values, baseline),
      lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), paired=True,
      n_resamples=20_000, method='percentile', rng=1).confidence_interval
  assert found[1:3] == pytest.approx(tuple(wanted), abs=0.001)
  assert found.high - found.low > 0.02


def test_unpaired_noise_does_not_matter():
  """What both rows share has no part in the interval."""
  generator = np.random.default_rng(0)
  hard = 100 * generator.normal(size=100)
  gain = 1 + 0.1 * generator.normal(size=100)
  found = comparisons.paired(hard + gain, hard)
  assert 0.9 < found.low < 1 < found.high < 1.1
  assert found.p_value == pytest.approx(2 / 10_001)
  assert (found.better, found.worse) == (100, 0)


@pytest.mark.parametrize('gain', [0.0, 0.06])
def test_interval_covers_the_truth_as_often_as_it_says(gain):
  """A coin of known bias decides which row answers; one query in five."""
  generator = np.random.default_rng(1)
  covered, rejected = 0, 0
  for trial in range(300):
    coin = generator.random(200)
    better, worse = coin < 0.1 + gain / 2, coin > 0.9 + gain / 2
    found = comparisons.paired(better, worse, 500, seed=trial)
    covered += found.low <= gain <= found.high
    rejected += found.p_value < 0.05
  assert 0.92 * 300 <= covered <= 0.98 * 300
  if not gain:
    assert 0.02 * 300 <= rejected <= 0.08 * 300


def test_seeds_widen_the_interval():
  """Of rows that differ by their seed alone; one seed says nothing of it."""
  of_seed = np.array([[-2.0], [1.0], [4.0]]) + np.zeros((3, 50))
  found = comparisons.paired(of_seed, np.zeros((3, 50)))
  assert found[:3] == (1.0, -2.0, 4.0) and found.p_value > 0.3
  one = comparisons.paired(of_seed[1], np.zeros(50))
  assert one[:3] == (1.0, 1.0, 1.0)


def test_rows_of_results():
  generator = np.random.default_rng(2)
  ranks = {row: generator.integers(1, 20, 90) for row in 'abc'}
  pairs = [('a', 'b'), ('c', 'a'), ('b', 'not there')]
  found = comparisons.compare(ranks, pairs)
  assert [(one['row'], one['baseline'], one['metric']) for one in found] == [
      (*pair, metric) for pair in pairs[:2] for metric in (
          'recall_at_1', 'recall_at_5', 'recall_at_10', 'mrr')]
  for one in found:
    values, baseline = (
        [1 / rank if one['metric'] == 'mrr' else
         100.0 * (rank <= int(one['metric'].split('_')[-1]))
         for rank in ranks[one[side]]] for side in ('row', 'baseline'))
    alone = comparisons.paired(values, baseline)
    assert one['difference'] == pytest.approx(
        np.mean(values) - np.mean(baseline))
    assert [*one['ci95'], one['p_value']] == pytest.approx(alone[1:4])
    assert (one['better'], one['worse']) == alone[4:]
  assert comparisons.compare(ranks, pairs) == found
  assert comparisons.compare(ranks, pairs, seed=1) != found
  assert comparisons.compare(ranks, [('a', 'd')]) == []


def test_blocks_of_draws_change_nothing(monkeypatch):
  values = np.random.default_rng(3).normal(size=40)
  found = comparisons.paired(values, np.zeros(40), 300)
  monkeypatch.setattr(comparisons, '_BLOCK_CELLS', 400)
  assert comparisons.paired(values, np.zeros(40), 300) == pytest.approx(found)


def test_equal_rows_do_not_differ():
  same = np.arange(9)
  assert comparisons.paired(same, same) == (0, 0, 0, 1, 0, 0)


def test_a_table_of_differences_is_quick():
  generator = np.random.default_rng(4)
  ranks = {row: generator.integers(1, 20, 1000) for row in 'abcdef'}
  start = time.process_time()
  found = comparisons.compare(ranks, itertools.combinations('abcdef', 2))
  assert len(found) == 60
  assert time.process_time() - start < 3


@pytest.mark.parametrize('call, message', [
    (lambda: comparisons.paired([1, 2], [1]), r'shape \(2,\).*\(1,\)'),
    (lambda: comparisons.paired([], []), 'want the same'),
    (lambda: comparisons.paired([1, np.nan], [1, 2]), 'not finite'),
    (lambda: comparisons.paired([1], [1], 0), 'n_resamples is 0'),
    (lambda: comparisons.compare({'a': [1, 2], 'b': [1]}, [('a', 'b')]),
     r"'a': \(2,\), 'b': \(1,\)"),
    (lambda: comparisons.values_of([1], 'median_rank'), "'median_rank': want"),
    (lambda: comparisons.values_of([1], 'recall_at_x'), "'recall_at_x': want")])
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
