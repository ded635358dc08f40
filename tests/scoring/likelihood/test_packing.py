"""Packed strips: every kept pair once, few shapes, little padding."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import packing

LIMITS = packing.Limits(rows=8, columns=16, max_padding=0.1, multiple=1)


def random_case(seed):
  """(keep [R, C], sizes [C], prefixes [R], limits) of many kinds."""
  rng = np.random.default_rng(seed)
  n_rows, n_columns = rng.integers(1, 60, 2)
  density = rng.choice([0.02, 0.2, 0.9]) * rng.random((n_rows, 1)) * 1.2
  keep = rng.random((n_rows, n_columns)) < density
  if seed % 2:
    keep[rng.integers(n_rows)] = True  # one row that keeps all
  if seed % 3:
    keep[rng.random(n_rows) < 0.3] = False
  sizes = [rng.integers(1, 30, n_columns), np.full(n_columns, 3),
           rng.geometric(0.1, n_columns)][seed % 3]
  return keep, sizes, rng.integers(5, 40, n_rows), packing.Limits(
      int(rng.integers(1, 20)), int(rng.integers(1, 40)),
      rng.choice([0.0, 0.1, 9.0]), int(rng.choice([1, 8])))


@pytest.mark.parametrize('seed', range(30))
def test_each_kept_pair_is_in_one_place_that_has_room_for_it(seed):
  keep, sizes, prefixes, limits = random_case(seed)
  seen = np.zeros(keep.shape, int)
  for strip in packing.pack(keep, sizes, prefixes, limits):
    assert strip.size % limits.multiple == 0
    assert len(strip.rows) <= strip.size < limits.rows + limits.multiple
    assert (prefixes[strip.rows] <= strip.length).all()
    assert len(strip.padded) == strip.size
    np.testing.assert_array_equal(strip.padded[:len(strip.rows)], strip.rows)
    for tile in strip.tiles:
      shape = len(strip.rows), len(tile.sizes)
      assert tile.columns.shape == tile.real.shape == shape
      assert tile.real.any(0).sum() <= limits.columns
      assert tile.sizes.sum() <= tile.total and max(tile.sizes) <= tile.longest
      # What fills up fits as well: it is computed with the others.
      assert (sizes[tile.columns] <= tile.longest).all()
      for row, column in zip(*np.nonzero(tile.real)):
        seen[strip.rows[row], tile.columns[row, column]] += 1
        assert sizes[tile.columns[row, column]] <= tile.sizes[column]
      columns = strip.columns(tile)
      assert columns.shape == (strip.size, shape[1])
      np.testing.assert_array_equal(columns[:len(strip.rows)], tile.columns)
  np.testing.assert_array_equal(seen, keep)


def test_nothing_is_kept():
  assert packing.pack(np.zeros((3, 4), bool), np.ones(4, int),
                      np.ones(3, int), LIMITS) == []


def shapes(strips):
  return {(strip.size, strip.length, tile.columns.shape[1], tile.longest,
           tile.total) for strip in strips for tile in strip.tiles}


@pytest.mark.parametrize('topk', [2, 16, 50])
def test_a_cascade_has_few_shapes_and_little_padding(topk):
  """Random scores with hubs, captions as a benchmark's."""
  rng = np.random.default_rng(topk)
  scores = rng.normal(size=(500, 600)) + 0.5 * rng.normal(size=(500, 1))
  keep = np.zeros(scores.shape, bool)
  best = np.argsort(-scores, 1)[:, :topk]
  np.put_along_axis(keep, best, True, 1)
  best = np.argsort(-scores, 0)[:topk]
  np.put_along_axis(keep, best, True, 0)
  assert keep.sum(1).max() > 1.5 * np.median(keep.sum(1))
  sizes = rng.lognormal(2.5, 0.4, 600).astype(int) + 3
  limits = packing.Limits(32, 64, 0.1, 1)
  strips = packing.pack(keep, sizes, np.full(500, 49), limits)
  real = 500 * 49 + int((keep * sizes).sum())
  assert sum(strip.tokens for strip in strips) <= 1.45 * real
  assert len(shapes(strips)) <= 12
  clips = packing.pack(keep.T, np.full(500, 3), sizes + 30, limits)
  real = int((sizes + 30).sum()) + 3 * int(keep.sum())
  assert sum(strip.tokens for strip in clips) <= 1.45 * real
  assert len(shapes(clips)) <= 10
  # Clips are counted by places: a tile's tokens are those of its videos.
  assert all(tile.total == 3 * tile.columns.shape[1]
             for strip in clips for tile in strip.tiles)


def test_a_row_that_keeps_all_costs_little_more_than_its_own():
  keep = np.zeros((64, 1000), bool)
  keep[np.arange(64), np.arange(64)] = True
  sizes, prefixes = np.full(1000, 10), np.full(64, 20)
  limits = packing.Limits(16, 64, 0.1, 1)
  before = sum(s.tokens for s in packing.pack(keep, sizes, prefixes, limits))
  keep[5] = True
  after = sum(s.tokens for s in packing.pack(keep, sizes, prefixes, limits))
  assert after - before <= 1.5 * 1000 * 10  # not 16 times that


def test_one_long_caption_does_not_lengthen_the_chains_of_the_others():
  keep = np.ones((4, 20), bool)
  sizes = np.full(20, 5)
  sizes[7] = 200
  strips = packing.pack(keep, sizes, np.full(4, 9), LIMITS)
  chains = sum(strip.size * len(tile.sizes) * tile.longest
               for strip in strips for tile in strip.tiles)
  assert chains <= 4 * (2 * sizes.sum() + 3 * 200)  # not 4 * 20 * 200
  assert sum(strip.tokens for strip in strips) <= 1.6 * 4 * sizes.sum()


@pytest.mark.parametrize('multiple', [1, 8])
def test_a_grid_has_all_rows_and_the_same_tiles(multiple):
  prefixes = np.random.default_rng(0).integers(5, 40, 50)
  columns = [np.arange(3), np.arange(3, 7)]
  strips = packing.grid(prefixes, columns, LIMITS._replace(multiple=multiple))
  np.testing.assert_array_equal(
      np.sort(np.concatenate([strip.rows for strip in strips])), np.arange(50))
  for strip in strips:
    assert (prefixes[strip.rows] <= strip.length).all()
    assert len(strip.rows) <= strip.size and strip.size % multiple == 0
    assert [tile.columns.tolist() for tile in strip.tiles] == [
        c.tolist() for c in columns]
    assert strip.columns(strip.tiles[1]).tolist() == [[3, 4, 5, 6]]
  by_length = {}
  for strip in strips:
    by_length.setdefault(strip.length, set()).add(strip.size)
  assert all(len(found) == 1 for found in by_length.values())
