"""Hard negatives against a plain loop, and the chances of each kind."""
import numpy as np
import pytest

from jaxret.scoring.embeddings import mining


def case(n_queries=40, n_candidates=60, k=20, seed=0):
  """(ranked, modality, positive, positives) at random."""
  rng = np.random.default_rng(seed)
  ranked = np.stack([rng.permutation(n_candidates)[:k]
                     for _ in range(n_queries)])
  positives = [np.unique(rng.integers(n_candidates, size=rng.integers(1, 5)))
               for _ in range(n_queries)]
  positive = np.array([rng.choice(own) for own in positives])
  ranked[0, 12:] = -1  # a pool with fewer candidates
  return ranked, rng.integers(3, size=n_candidates), positive, positives


def test_sets_are_those_of_a_plain_loop():
  ranked, modality, positive, positives = case()
  sets = mining.split(ranked, modality, positive, positives, offset=14)
  for q, row in enumerate(ranked.tolist()):
    rank = row.index(positive[q]) + 1 if positive[q] in row else len(row) + 1
    assert sets.positive_rank[q] == rank
    for place, candidate in enumerate(row):
      free = candidate >= 0 and candidate not in positives[q]
      same = modality[candidate] == modality[positive[q]]
      assert sets.wrong_modality[q, place] == (
          free and not same and place + 1 < rank)
      assert sets.insufficient[q, place] == (free and same and place + 1 > 14)


def test_a_negative_is_of_its_kind_and_no_positive():
  ranked, modality, positive, positives = case(n_queries=400)
  sets = mining.split(ranked, modality, positive, positives, offset=18)
  pool = np.arange(60) // 20
  negative, kind = mining.draw(ranked, sets, positive, positives, pool, seed=3)
  both = sets.wrong_modality.any(1) & sets.insufficient.any(1)
  neither = ~sets.wrong_modality.any(1) & ~sets.insufficient.any(1)
  assert both.any() and neither.any()
  np.testing.assert_array_equal(kind == mining.RANDOM, neither)
  for q in range(len(ranked)):
    assert negative[q] not in positives[q]
    if kind[q] == mining.RANDOM:
      assert pool[negative[q]] == pool[positive[q]]
    else:
      chosen = (sets.wrong_modality, sets.insufficient)[kind[q]][q]
      assert negative[q] in ranked[q][chosen]
  only_first = sets.wrong_modality.any(1) & ~sets.insufficient.any(1)
  assert (kind[only_first] == mining.WRONG_MODALITY).all()


def test_both_kinds_and_all_their_members_have_the_same_chance():
  n = 4000
  ranked = np.tile(np.arange(6), (n, 1))
  modality = np.array([1, 1, 0, 0, 0, 0])  # positive is 2
  sets = mining.split(ranked, modality, np.full(n, 2), [np.array([2])] * n, 4)
  negative, kind = mining.draw(ranked, sets, np.full(n, 2), [np.array([2])] * n,
                               np.zeros(6, int), seed=0)
  assert set(negative.tolist()) == {0, 1, 4, 5}
  share = np.mean(kind == mining.WRONG_MODALITY)
  assert abs(share - 0.5) < 3 * (0.25 / n) ** 0.5
  for candidate in (0, 1, 4, 5):
    assert abs(np.mean(negative == candidate) - 0.25) < 3 * (
        0.1875 / n) ** 0.5


def test_a_draw_depends_on_its_query_alone():
  ranked, modality, positive, positives = case(n_queries=30)
  sets = mining.split(ranked, modality, positive, positives, offset=14)
  pool = np.zeros(60, int)
  whole = mining.draw(ranked, sets, positive, positives, pool, seed=7)
  for first, last in ((0, 11), (11, 30)):
    part = slice(first, last)
    own = mining.draw(
        ranked[part], mining.Sets(*(field[part] for field in sets)),
        positive[part], positives[part], pool, seed=7, first=first)
    for got, wanted in zip(own, whole):
      np.testing.assert_array_equal(got, wanted[part])
  other, _ = mining.draw(ranked, sets, positive, positives, pool, seed=8)
  assert (other != whole[0]).any()


def test_a_random_negative_may_come_from_elsewhere_but_not_from_nowhere():
  ranked = np.array([[0, 1]])
  sets = mining.Sets(np.zeros((1, 2), bool), np.zeros((1, 2), bool),
                     np.array([1]))
  pool = np.array([0, 0, 1])
  negative, kind = mining.draw(
      ranked, sets, np.array([0]), [np.array([0, 1])], pool, seed=0)
  assert (negative[0], kind[0]) == (2, mining.RANDOM)
  with pytest.raises(ValueError, match='query 5: all 2 candidates'):
    mining.draw(ranked, sets, np.array([0]), [np.array([0, 1])], pool[:2],
                seed=0, first=5)


def test_statistics_count_every_query_once():
  kind = np.array([0, 0, 1, 2, 1, 0], np.int8)
  found = mining.statistics(kind, np.array([1, 51, 3, 51, 51, 1]), 50)
  assert found == {'queries': 6, 'wrong_modality': 3, 'insufficient': 2,
                   'random': 1, 'positive_first': 2, 'positive_beyond_top': 3}


def test_several_negatives_are_different_and_the_first_is_the_one():
  ranked, modality, positive, positives = case(n_queries=200)
  sets = mining.split(ranked, modality, positive, positives, offset=12)
  pool = np.arange(60) // 20
  one = mining.draw(ranked, sets, positive, positives, pool, seed=3, first=5)
  negative, kind = mining.draw_several(
      ranked, sets, positive, positives, pool, 3, 5, count=4)
  np.testing.assert_array_equal(negative[:, 0], one[0])
  np.testing.assert_array_equal(kind[:, 0], one[1])
  for q, own in enumerate(negative):
    assert len(set(own)) == 4 and not set(own) & set(positives[q])
    for one, what in zip(own, kind[q]):
      if what != mining.RANDOM:
        assert one in ranked[q][(sets.wrong_modality,
                                 sets.insufficient)[what][q]]
  # Chance gave the second no favour of the first one's.
  assert 0.2 < np.mean(kind[:, 1] == kind[:, 0]) < 0.95
  assert mining.statistics(kind, sets.positive_rank, 20)['queries'] == 200


def test_a_pool_that_is_too_small_is_said():
  ranked = np.array([[0, 1, 2]])
  sets = mining.split(ranked, np.zeros(3, int), np.array([0]), [[0]], 0)
  with pytest.raises(ValueError, match='query 7: its pool of 3 has but 2'):
    mining.draw_several(ranked, sets, np.array([0]), [np.array([0])],
                        np.zeros(3, int), 0, 7, count=3)


@pytest.mark.parametrize('strategy', mining.STRATEGIES)
def test_strategies_draw_from_what_they_name(strategy):
  n, offset = 4000, 4
  ranked = np.tile(np.arange(7), (n, 1))
  modality = np.array([1, 1, 0, 0, 1, 0, 0, 0])  # the positive is 3
  positive, positives = np.full(n, 3), [np.array([3])] * n
  sets = mining.split(ranked, modality, positive, positives, offset, strategy)
  negative, kind = mining.draw(
      ranked, sets, positive, positives, np.array([0] * 7 + [1]), seed=1,
      even=strategy != 'any_modality')
  share = np.bincount(negative, minlength=8) / n
  wanted = {
      # 0 and 1 before the positive; 5 and 6 behind the offset.
      'modality_aware': [.25, .25, 0, 0, 0, .25, .25, 0],
      'right_modality': [0, 0, 0, 0, 0, .5, .5, 0],
      'any_modality': [*[1 / 6] * 3, 0, *[1 / 6] * 3, 0],
      'random': [*[1 / 6] * 3, 0, *[1 / 6] * 3, 0]}[strategy]
  np.testing.assert_allclose(share, wanted, atol=.03)
  if strategy == 'random':
    assert (kind == mining.RANDOM).all()
  else:
    np.testing.assert_array_equal(
        kind == mining.WRONG_MODALITY, modality[negative] == 1)


def test_an_unknown_strategy_is_refused():
  ranked, modality, positive, positives = case()
  with pytest.raises(ValueError, match="mine.strategy 'easy' is unknown"):
    mining.split(ranked, modality, positive, positives, 4, 'easy')
