"""Dual softmax and QB-norm by double loops over Python floats."""
import math

import numpy as np
import pytest

from jaxret import metrics
from jaxret.scoring import all_queries


def make(seed=0, shape=(9, 7), scale=1.0):
  random = np.random.default_rng(seed)
  hubs = random.gamma(1, 1, shape[1])
  return (scale * (random.normal(size=shape) + hubs - 5)).astype(np.float32)


def loop_dual_softmax(scores, temperature):
  rows = [[float(x) / temperature for x in row] for row in scores]
  found = np.empty(scores.shape)
  for q, c in np.ndindex(scores.shape):
    over_candidates = sum(math.exp(x) for x in rows[q])
    over_queries = sum(math.exp(row[c]) for row in rows)
    own = math.exp(rows[q][c])
    found[q, c] = math.log(own / over_candidates * own / over_queries)
  return found


def loop_qb_norm(scores, temperature):
  rows = [[float(x) / temperature for x in row] for row in scores]
  found = np.empty(scores.shape)
  for q, row in enumerate(rows):
    bank = rows[:q] + rows[q + 1:]
    hubs = {other.index(max(other)) for other in bank}
    for c, own in enumerate(row):
      found[q, c] = own if row.index(max(row)) not in hubs else math.log(
          math.exp(own) / sum(math.exp(other[c]) for other in bank))
  return found


LOOPS = {'dual_softmax': loop_dual_softmax, 'qb_norm': loop_qb_norm}


@pytest.mark.parametrize('method', all_queries.METHODS)
@pytest.mark.parametrize('temperature', [0.2, 1.0, 3.0])
@pytest.mark.parametrize('block_cells', [1 << 20, 14])
def test_scores_are_those_of_a_double_loop(
    method, temperature, block_cells, monkeypatch):
  monkeypatch.setattr(all_queries, '_BLOCK_CELLS', block_cells)
  for seed in range(5):
    scores = make(seed)
    before = scores.copy()
    found = all_queries.normalized(method, scores, temperature)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, LOOPS[method](scores, temperature), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(scores, before)


def test_queries_of_a_bank_are_some_hubs_and_some_not():
  """So that the loop above compares both cases."""
  counts = np.concatenate([np.bincount(make(s).argmax(1)) for s in range(5)])
  assert {1, 2} < set(counts)


@pytest.mark.parametrize('method', all_queries.METHODS)
def test_large_scores_overflow_nowhere(method):
  """What Python's floats could not hold: 4,000 nats over the temperature."""
  scores = make(1, scale=40)
  found = all_queries.normalized(method, scores, 0.01)
  assert np.isfinite(found).all()
  shifted = all_queries.normalized(method, scores - 500, 0.01)
  assert (np.argmax(shifted, 1) == np.argmax(found, 1)).all()


def test_the_share_of_the_best_query_is_not_lost():
  """A query that dominates its candidate's sum by 1e40."""
  scores = np.array([[100.0, 1.0], [9.0, 3.0], [8.0, 4.0]])
  found = all_queries.qb_norm(scores, 1.0)
  assert found[0, 0] == pytest.approx(
      100 - math.log(math.exp(9) + math.exp(8)))


def test_a_hub_is_ranked_as_by_the_inverted_softmax():
  """Of all queries (Smith et al. 2017), which is what QB-norm starts from."""
  scores = make(2, (12, 4)).astype(np.float64)
  assert (np.bincount(scores.argmax(1), minlength=4) != 1).all()
  shares = np.exp(scores) / np.exp(scores).sum(0)
  np.testing.assert_array_equal(
      np.argsort(all_queries.qb_norm(scores, 1.0), 1), np.argsort(shares, 1))


@pytest.mark.parametrize('method', all_queries.METHODS)
def test_hubs_lose(method):
  """Queries that all like one candidate best, each its own second."""
  scores = np.where(np.eye(6, dtype=bool), -1.0, -3.0)
  scores[:, 0] = -0.9
  truth = np.arange(6)[:, None]
  assert metrics.recall_at_k(metrics.ranks(scores, truth), 1) < 17
  found = all_queries.normalized(method, scores, 0.2)
  assert (found[1:].argmax(1) == np.arange(1, 6)).all()


def test_one_query_has_no_other():
  scores = np.array([[-1.0, -2.0, -1.5]])
  np.testing.assert_array_equal(all_queries.qb_norm(scores, 0.5), scores / 0.5)
  np.testing.assert_allclose(
      all_queries.dual_softmax(scores, 0.5),
      loop_dual_softmax(scores, 0.5), rtol=1e-6)


@pytest.mark.parametrize('method', all_queries.METHODS)
def test_the_chosen_temperature_is_the_best_of_them(method):
  scores, relevant = make(4, (30, 30)), np.arange(30)[:, None]
  scores = scores + 1.5 * np.eye(30)
  def quality(temperature):
    found = all_queries.normalized(method, scores, temperature)
    ranks = [1 + sum(x >= row[q] for x in np.delete(row, q))
             for q, row in enumerate(found)]
    return np.mean([r == 1 for r in ranks]), np.mean([1 / r for r in ranks])
  chosen = all_queries.choose(method, scores, relevant)
  best = max(map(quality, all_queries.TEMPERATURES))
  assert quality(chosen) == best > min(map(quality, all_queries.TEMPERATURES))
  assert chosen == max(t for t in all_queries.TEMPERATURES
                       if quality(t) == best)


@pytest.mark.parametrize('arguments, message', [
    (('softmax', make(), 1.0), "normalize is 'softmax': want one of dual_s"),
    (('qb_norm', make(), 0.0), 'temperature is 0.0: want a number above 0'),
    (('qb_norm', make(), float('nan')), 'temperature is nan'),
    (('dual_softmax', np.where(make() < -6, -np.inf, make()), 1.0),
     'query . has a pair without a score; want all of them')])
def test_bad_input_is_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    all_queries.normalized(*arguments)
