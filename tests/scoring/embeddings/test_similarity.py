"""Exact search against a full sort: ties, exclusions, blocks, devices."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import search as bench
from jaxret.scoring.embeddings import similarity


def whole(shape, seed, high=3):
  """Small whole numbers: every product is exact, many scores are equal."""
  generator = np.random.default_rng(seed)
  return generator.integers(-high, high + 1, shape).astype(np.float32)


def sorted_in_full(queries, candidates, k, exclude=None):
  """The first k by (-score, index), in a double loop."""
  scores = np.full((len(queries), k), -np.inf, np.float32)
  indices = np.full((len(queries), k), -1)
  for q, query in enumerate(queries):
    left_out = set(() if exclude is None else exclude[q])
    found = sorted((-float(query @ row), c)
                   for c, row in enumerate(candidates) if c not in left_out)
    for place, (score, c) in enumerate(found[:k]):
      scores[q, place], indices[q, place] = -score, c
  return scores, indices


def check(found, wanted):
  np.testing.assert_array_equal(found[1], wanted[1])
  np.testing.assert_array_equal(found[0], wanted[0])
  assert found[0].dtype == np.float32 and found[1].dtype == np.int64


@pytest.mark.parametrize('k', [1, 7, 40])
@pytest.mark.parametrize('block_rows', [1, 128, 1024])
def test_equals_a_full_sort_with_many_ties(k, block_rows):
  queries, candidates = whole((13, 6), 0), whole((700, 6), 1)
  candidates[100:130] = candidates[5]  # the same score in several blocks
  check(similarity.search(queries, candidates, k, block_rows=block_rows),
        sorted_in_full(queries, candidates, k))


@pytest.mark.parametrize('n_devices', [1, 2, 4, 8])
def test_any_number_of_devices_gives_the_same(n_devices):
  queries, candidates = whole((9, 5), 2), whole((1500, 5), 3, high=1)
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 2 if n_devices > 2 else 1},
                            jax.devices()[:n_devices])
  exclude = [np.arange(q * 20, q * 20 + q) for q in range(9)]
  found = similarity.search(queries, candidates, 20, mesh, exclude, 256)
  check(found, sorted_in_full(queries, candidates, 20, exclude))


def test_tiles_of_queries(monkeypatch):
  monkeypatch.setattr(similarity, 'QUERY_ROWS', 4)
  queries, candidates = whole((10, 4), 4), whole((300, 4), 5)
  exclude = [[q, 299 - q] for q in range(10)]
  check(similarity.search(queries, candidates, 5, exclude=exclude,
                          block_rows=64),
        sorted_in_full(queries, candidates, 5, exclude))


def test_little_of_the_last_block_and_of_the_tiles_is_padding(monkeypatch):
  monkeypatch.setattr(similarity, 'QUERY_ROWS', 8)
  sizes = []
  def step(*arguments, take=similarity._step):
    sizes.append((len(arguments[3]), len(arguments[4])))
    return take(*arguments)
  monkeypatch.setattr(similarity, '_step', step)
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  queries, candidates = whole((10, 4), 4), whole((1200, 4), 5)
  exclude = [[q, 1199 - q] for q in range(10)]
  found = similarity.search(queries, iter([candidates]), 5, mesh, exclude, 1024)
  check(found, sorted_in_full(queries, candidates, 5, exclude))
  assert sizes == [(5, 1024)] * 2 + [(5, 256)] * 2


def test_excluded_candidates_never_come_back_whatever_their_number():
  queries, candidates = whole((3, 4), 6), whole((90, 4), 7)
  exclude = [np.arange(90), np.arange(5, 90), []]
  scores, indices = similarity.search(queries, candidates, 10,
                                      exclude=exclude, block_rows=64)
  check((scores, indices), sorted_in_full(queries, candidates, 10, exclude))
  assert (indices[0] == -1).all() and np.isneginf(scores[0]).all()
  assert sorted(indices[1])[:5] == [-1] * 5


def test_memory_maps_iterables_and_half_precision(tmp_path):
  queries, candidates = whole((6, 8), 8), whole((333, 8), 9)
  wanted = sorted_in_full(queries, candidates, 4)
  np.save(tmp_path / 'pool.npy', candidates.astype(np.float16))
  mapped = np.load(tmp_path / 'pool.npy', mmap_mode='r')
  check(similarity.search(queries, mapped, 4, block_rows=100), wanted)
  for sizes in ((333,), (1, 200, 0, 132), (50,) * 6 + (33,)):
    parts = np.split(candidates, np.cumsum(sizes)[:-1])
    check(similarity.search(queries, iter(parts), 4, block_rows=64), wanted)
  check(similarity.search(jnp.asarray(queries), jnp.asarray(candidates), 4,
                          block_rows=64), wanted)


def test_only_one_block_is_read_at_a_time():
  class Pool:
    """An array that would be 4 TB."""
    shape = (1 << 14, 4)
    longest = 0

    def __len__(self):
      return self.shape[0]

    def __getitem__(self, index):
      rows = np.arange(*index.indices(len(self)), dtype=np.float32)
      Pool.longest = max(Pool.longest, len(rows))
      return np.stack([rows, -rows, rows * 0, rows * 0], 1)

  queries = np.eye(4, dtype=np.float32)[:2]
  scores, indices = similarity.search(queries, Pool(), 3, block_rows=1024)
  assert Pool.longest == 1024
  np.testing.assert_array_equal(
      indices, [[16383, 16382, 16381], [0, 1, 2]])
  np.testing.assert_array_equal(scores[1], [0, -1, -2])


def test_random_vectors_agree_with_numpy():
  queries, candidates = bench.rows(50, 32, 0), bench.rows(3000, 32, 1)
  found = similarity.search(queries, candidates, 10, block_rows=1024)
  exact = queries @ candidates.T
  order = np.argsort(-exact, 1, kind='stable')[:, :10]
  np.testing.assert_array_equal(found[1], order)
  np.testing.assert_allclose(found[0], np.take_along_axis(exact, order, 1),
                             atol=1e-6)
  np.testing.assert_allclose(similarity.similarity(queries, candidates), exact,
                             atol=1e-6)


@pytest.mark.parametrize('change, message', [
    (dict(k=0), 'k is 0'),
    (dict(queries=np.full((2, 3), np.nan)), 'query 0 holds a number'),
    (dict(candidates=np.zeros((5, 4))), r'candidates have the shape \(5, 4\)'),
    (dict(candidates=np.zeros((0, 3))), 'there are no candidates'),
    (dict(exclude=[[1]]), '1 entries for 2 queries'),
    (dict(exclude=[[1], [-2]]), 'query 1 excludes the index -2'),
    (dict(candidates=[[0, 0, 0], [0, np.nan, 0]]), 'candidate 1 holds')])
def test_bad_input_is_named(change, message):
  arguments = dict(queries=np.ones((2, 3)), candidates=np.ones((5, 3)), k=2)
  arguments |= change
  arguments['candidates'] = np.asarray(arguments['candidates'], np.float32)
  with pytest.raises(ValueError, match=message) as error:
    similarity.search(**arguments)
  assert '\n' not in str(error.value)


def test_bench_prints_one_json_object_last(capsys):
  bench.main(['--candidates=2000', '--queries=20', '--width=16',
              '--rounds=1', '--check=20'])
  numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert numbers['wrong_queries'] == 0
  assert numbers['max_abs_difference'] < 1e-6
  assert numbers['ratio'] == numbers['seconds'] / numbers['baseline_seconds']


def test_bench_searches_for_one_query_after_another(capsys):
  bench.main(['--candidates=2000', '--queries=4', '--width=16', '--rounds=1',
              '--single=3'])
  numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert numbers['single_queries'] == 3 and numbers['single_seconds'] > 0
  assert numbers.get('single_differ', 0) == 0


def test_bench_counts_a_wrong_answer():
  queries, candidates = bench.rows(4, 8, 0), bench.rows(100, 8, 1)
  scores, indices = similarity.search(queries, candidates, 3)
  assert bench.mismatches(queries, candidates, (scores, indices), 4)[0] == 0
  indices[2, 0] = indices[2, 2]
  assert bench.mismatches(queries, candidates, (scores, indices), 4)[0] == 1


@pytest.mark.parametrize('n_candidates, n_devices', [
    (1, 1), (70, 8), (1000, 1), (2500, 3)])
def test_placed_candidates_give_what_a_full_sort_does(
    monkeypatch, n_candidates, n_devices):
  monkeypatch.setattr(similarity, 'BLOCK_NUMBERS', 1 << 13)
  queries, candidates = whole((5, 8), 0), whole((n_candidates, 8), 1)
  mesh = sharding.make_mesh(devices=jax.devices()[:n_devices])
  placed = similarity.Placed(candidates, mesh)
  assert placed.shape == candidates.shape and len(placed) == n_candidates
  for k in (1, 7):
    check(placed.search(queries, k), sorted_in_full(queries, candidates, k))
  left_out = [list(range(0, n_candidates, 2))] * 5
  keep = np.ones(n_candidates, bool)
  keep[left_out[0]] = False
  want = sorted_in_full(queries, candidates, 7, left_out)
  check(placed.search(queries, 7, exclude=left_out), want)
  check(placed.search(queries, 7, keep=keep), want)


def test_placed_candidates_may_be_half_as_wide_and_little_of_them_is_padding():
  queries, candidates = whole((3, 8), 0), whole((5000, 8), 1)
  placed = similarity.Placed(candidates.astype(np.float16))
  check(placed.search(queries, 5), sorted_in_full(queries, candidates, 5))
  for n_rows in (100, 1000, 5000, 100_001, 200_000, 1_000_000):
    for n_shards in (1, 8):
      made = similarity._evenly(n_rows, n_shards)
      assert n_rows <= made <= max(64 * n_shards, 1.07 * n_rows + 64 * n_shards)
      assert made % n_shards == 0


@pytest.mark.parametrize('change, message', [
    ({'queries': np.ones((1, 3))}, r'are 3 wide; wanted \[C, 3\]'),
    ({'keep': np.ones(4, bool)}, 'keep is bool'),
    ({'keep': np.ones(6)}, 'keep is float64'), ({'k': 0}, 'k is 0')])
def test_bad_input_of_placed_candidates_is_named(change, message):
  placed = similarity.Placed(np.ones((6, 4)))
  with pytest.raises(ValueError, match=message):
    placed.search(**{'queries': np.ones((1, 4)), 'k': 2} | change)
  with pytest.raises(ValueError, match='there are no candidates'):
    similarity.Placed(np.ones((0, 4)))
