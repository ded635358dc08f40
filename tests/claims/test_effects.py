"""The interval of an effect: its arithmetic, its coverage, its verdict."""
import itertools

import numpy as np
import pytest
from scipy import stats

from jaxret import comparisons
from jaxret.claims import effects


def drawn(seed, n_seeds=3, n_queries=60, of_seed=3.0, of_query=30.0, rest=40.0,
          mean=0.0):
  rng = np.random.default_rng(seed)
  return (mean + rng.normal(0, of_seed, (n_seeds, 1))
          + rng.normal(0, of_query, (1, n_queries))
          + rng.normal(0, rest, (n_seeds, n_queries)))


def slowly(table):
  """(mean, variance, degrees of freedom) by sums of an analysis of variance."""
  n_seeds, n_queries = len(table), len(table[0])
  cells = list(itertools.product(range(n_seeds), range(n_queries)))
  mean = sum(table[s][q] for s, q in cells) / len(cells)
  seed = [sum(table[s]) / n_queries for s in range(n_seeds)]
  query = [sum(table[s][q] for s in range(n_seeds)) / n_seeds
           for q in range(n_queries)]
  ms_s = n_queries * sum((x - mean) ** 2 for x in seed) / (n_seeds - 1)
  ms_q = n_seeds * sum((x - mean) ** 2 for x in query) / (n_queries - 1)
  ms_e = sum((table[s][q] - seed[s] - query[q] + mean) ** 2
             for s, q in cells) / ((n_seeds - 1) * (n_queries - 1))
  scaled = max(ms_s + ms_q - ms_e, ms_s, ms_q)
  freedom = scaled ** 2 / (ms_s ** 2 / (n_seeds - 1)
                           + ms_q ** 2 / (n_queries - 1))
  return mean, scaled / len(cells), freedom


@pytest.mark.parametrize('seed', range(4))
def test_an_effect_is_that_of_an_analysis_of_variance(seed):
  table = drawn(seed, mean=2.0)
  mean, variance, freedom = slowly(table.tolist())
  half = stats.t.ppf(0.975, freedom) * variance ** 0.5
  found = effects.effect([effects.Part(1.0, table)])
  np.testing.assert_allclose(
      found[:3], [mean, mean - half, mean + half], rtol=1e-9)
  np.testing.assert_allclose(found.of_seeds, table.mean(1))


def test_one_seed_is_the_interval_over_queries():
  table = drawn(0, n_seeds=1)
  low, high = stats.t.interval(
      0.95, 59, table.mean(), stats.sem(table[0]))
  found = effects.effect([effects.Part(1.0, table)])
  np.testing.assert_allclose((found.low, found.high), (low, high))


def test_parts_are_weighted_and_vary_together_over_seeds():
  """Two tasks with the same seeds; the second is subtracted."""
  first, second = drawn(1, of_seed=0, n_queries=50), drawn(2, of_seed=0)
  found = effects.effect([effects.Part(1.0, first), effects.Part(-1.0, second)])
  assert found.difference == pytest.approx(first.mean() - second.mean())
  shift = np.array([[50.0], [-20.0], [7.0]])  # what a seed does to both
  both = effects.effect([effects.Part(1.0, first + shift),
                         effects.Part(-1.0, second + shift)])
  np.testing.assert_allclose(
      both[:3], np.add(found[:3], 0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('n_seeds, of_seed, rest', [
    (3, 0.0, 40.0), (3, 5.0, 40.0), (3, 3.0, 10.0), (5, 5.0, 40.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    n_seeds, of_seed, rest):
  hits, n_trials = 0, 400
  for trial in range(n_trials):
    found = effects.effect([effects.Part(1.0, drawn(
        [n_seeds, trial], n_seeds, of_seed=of_seed, rest=rest, mean=4.0))])
    hits += found.low <= 4.0 <= found.high
  assert 0.92 <= hits / n_trials  # one in a thousand such tests is below


def test_a_bootstrap_over_three_seeds_would_be_too_narrow():
  hits = {'t': 0, 'bootstrap': 0}
  for trial in range(100):
    table = drawn([7, trial], of_query=1.0, rest=5.0)
    found = effects.effect([effects.Part(1.0, table)])
    other = comparisons.paired(table, np.zeros_like(table), 500)
    hits['t'] += found.low <= 0 <= found.high
    hits['bootstrap'] += other.low <= 0 <= other.high
  assert hits['t'] >= 90 and hits['bootstrap'] < 88


def test_verdicts():
  def of(low, high, margin=0.0):
    return effects.verdict(
        effects.Effect((low + high) / 2, low, high, ()), margin)
  assert of(0.1, 4) == 'holds' and of(-4, -0.1) == 'opposite'
  assert of(-1, 1) == of(0, 1) == of(-1, 0) == of(0, 0) == (
      'no difference seen')
  assert of(-1, 3, margin=2.0) == 'holds'
  assert of(-3, 3, margin=2.0) == 'no difference seen'
  assert of(-5, -2.1, margin=2.0) == 'opposite'
  assert effects.together(['holds', 'holds']) == 'holds'
  assert effects.together(['holds', 'no difference seen']) == (
      'no difference seen')
  assert effects.together(['opposite', 'holds']) == 'opposite'


def test_rows_that_are_equal_differ_by_nothing():
  zeros = np.zeros((3, 20))
  assert effects.effect([effects.Part(1.0, zeros)])[:3] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize('parts, message', [
    ([np.zeros(4)], r'want \[S, Q\]'), ([np.zeros((3, 1))], 'two queries'),
    ([np.zeros((3, 4)), np.zeros((2, 4))], 'the same seeds'),
    ([np.full((2, 3), np.nan)], 'not finite')])
def test_what_is_no_table_is_refused(parts, message):
  with pytest.raises(ValueError, match=message):
    effects.effect([effects.Part(1.0, part) for part in parts])
