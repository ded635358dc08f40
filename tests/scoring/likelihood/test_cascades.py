"""What cascades keep: double loops, exact binomials, simulated coverage."""
import numpy as np
import pytest
from scipy import special, stats

from jaxret.scoring.likelihood import cascades


def make(seed, n_queries=13, n_candidates=9):
  """(first stage, scores) with ties, correlated."""
  rng = np.random.default_rng(seed)
  scores = rng.integers(0, 6, (n_queries, n_candidates)).astype(np.float32)
  return np.round(scores + rng.normal(size=scores.shape)), scores


def ordered(row):
  """Candidates, best first, equal ones in their own order."""
  return sorted(range(len(row)), key=lambda c: (-row[c], c))


@pytest.mark.parametrize('seed', range(8))
def test_depths_and_the_table_are_those_of_a_double_loop(seed, monkeypatch):
  if seed % 2:  # several blocks of rows, the last one shorter
    monkeypatch.setattr(cascades, '_BLOCK_CELLS', 5 * 13)
  first, scores = make(seed, n_candidates=9 + 4 * (seed % 2))
  ks = cascades.grid(first.shape[1])
  placed = cascades.places(first)
  table = cascades.table(placed, scores, ks)
  for k in (1, 3, 10):
    wanted = []
    for stage, row in zip(first, scores):
      places = [ordered(stage).index(c) for c in ordered(row)[:k]]
      wanted.append(max(places) + 1)
    np.testing.assert_array_equal(cascades.depths(placed, scores, k), wanted)
  for k, (best, ten) in zip(ks, table):
    counts = [0, 0]
    for q, row in enumerate(scores):
      keep = ordered(first[q])[:k]
      assert sorted(keep) == np.flatnonzero(
          cascades.kept(first, k)[q]).tolist()
      counts[0] += ordered(row)[0] in keep
      counts[1] += set(ordered(row)[:10]) <= set(keep)
    assert (best.kept, ten.kept) == tuple(counts)
    assert best.queries == ten.queries == len(first)
  assert table[-1][0].share == table[-1][1].share == 1.0  # K = all


def test_a_grid_ends_with_all_candidates():
  assert cascades.grid(1) == [1]
  assert cascades.grid(8) == [1, 2, 4, 8]
  assert cascades.grid(200) == [1, 2, 4, 8, 16, 32, 64, 128, 200]


@pytest.mark.parametrize('kept, queries', [
    (0, 7), (7, 7), (1, 1), (3, 10), (190, 200), (999, 1000)])
def test_the_interval_is_that_of_clopper_and_pearson(kept, queries):
  low, high = cascades.Agreement(queries, kept).interval
  lost = queries - kept
  wanted = (special.betaincinv(kept, lost + 1, 0.025) if kept else 0.0,
            special.betaincinv(kept + 1, lost, 0.975) if lost else 1.0)
  np.testing.assert_allclose((low, high), wanted, atol=1e-9)


@pytest.mark.parametrize('n, agreement, rank', [
    (19, 0.95, 19), (20, 0.95, 20), (39, 0.95, 38), (200, 0.95, 191),
    (99, 0.99, 99), (9, 0.5, 5)])
def test_k_is_the_finite_sample_quantile(n, agreement, rank):
  depths = np.random.default_rng(n).permutation(np.arange(1, n + 1))
  assert cascades.conformal_k(depths, agreement, 1000) == rank


def test_too_few_queries_keep_all_candidates():
  assert cascades.conformal_k(np.ones(18, int), 0.95, 321) == 321


@pytest.mark.parametrize('agreement', [0.8, 0.95])
@pytest.mark.parametrize('heavy', [False, True])
def test_a_new_query_is_kept_as_often_as_stated(agreement, heavy):
  """By simulation: depths are exchangeable, their distribution is any."""
  rng, n, runs, n_candidates = np.random.default_rng(0), 60, 4000, 500
  covered = 0
  for _ in range(runs):
    draw = rng.pareto(0.7, n + 1) if heavy else rng.geometric(0.2, n + 1)
    depths = np.minimum(1 + draw.astype(int), n_candidates)
    k = cascades.conformal_k(depths[:n], agreement, n_candidates)
    covered += depths[n] <= k
  # Not less than stated, by the exact binomial; the quantile below is.
  assert stats.binomtest(covered, runs, agreement, 'less').pvalue > 1e-3
  assert covered / runs < agreement + 0.07  # and not for any price


def test_one_rank_less_would_not_do():
  """Without ties coverage is rank / (n + 1): the test above can fail."""
  rng, n, runs, agreement = np.random.default_rng(1), 60, 20000, 0.95
  places = np.argsort(np.argsort(rng.random((runs, n + 1)), 1), 1) + 1
  ks = np.array([cascades.conformal_k(row[:n], agreement, n + 1)
                 for row in places])
  below = np.array([np.max(row[:n][row[:n] < k])
                    for row, k in zip(places, ks)])
  for enough, k in ((True, ks), (False, below)):
    covered = int((places[:, n] <= k).sum())
    p_value = stats.binomtest(covered, runs, agreement, 'less').pvalue
    assert (p_value > 1e-3) == enough
