"""Tiles of suffixes: all are there once, in rows of few sizes."""
import collections

import numpy as np
import pytest

from jaxret.scoring import pair_tiles

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(3, 200, 60).tolist()


def lists(queries):
  return [sorted(RNG.choice(60, 40, False).tolist()) for _ in range(queries)]


@pytest.mark.parametrize('shards', [1, 8])
@pytest.mark.parametrize('queries', [1, 3])
def test_what_is_wanted_is_there_once_and_fits(queries, shards):
  wanted = lists(queries)
  found = collections.Counter()
  for tile in pair_tiles.plan(wanted, LENGTHS, 512, shards):
    assert len(tile.queries) == len(tile.suffixes) and tile.real
    assert len(tile.queries) % shards == 0
    for row, (query, own) in enumerate(zip(tile.queries, tile.suffixes)):
      assert sum(LENGTHS[s] for s in own) <= tile.tokens
      assert len(own) <= tile.chains
      for s in own:
        assert pair_tiles.length_class(LENGTHS[s]) == tile.length
        found[query, s] += row < tile.real
  assert found == {(q, s): 1 for q, own in enumerate(wanted) for s in own}


def test_little_of_a_row_is_padding():
  wanted = [list(range(60))] * 4
  tiles = pair_tiles.plan(wanted, LENGTHS, 1024)
  read = sum(len(tile.queries) * tile.tokens for tile in tiles)
  assert read < 1.2 * 4 * sum(LENGTHS)
  assert len({(len(t.queries), t.tokens, t.length) for t in tiles}) <= 6


def test_rows_that_are_alike_follow_each_other():
  tiles = pair_tiles.plan([[0, 1], [2], [0, 1]], [20] * 3, 160)
  (tile,) = tiles
  assert tile.suffixes[:tile.real].count((0, 1)) == 2
  assert list(tile.queries[:2]) == [0, 2]


def test_each_token_has_its_place_in_its_chain():
  lengths = [3, 16, 9, 12]
  (tile,) = pair_tiles.plan([[0, 1, 2, 3]], lengths, 64)
  layout = pair_tiles.lay_out(tile, lengths)
  (own,), (at,) = tile.suffixes, layout.at
  for chain, (suffix, first) in enumerate(zip(own, at)):
    for k in range(lengths[suffix]):
      assert layout.index[0, chain, k] == first + k
      assert layout.place[0, first + k] == chain * tile.length + k
    assert layout.end[0, chain] == first + lengths[suffix] - 1


@pytest.mark.parametrize('number, size', [(1, 1), (9, 10), (33, 40), (64, 64),
                                          (65, 80), (1000, 1024)])
def test_sizes_are_of_four_steps_an_octave(number, size):
  assert pair_tiles.rounded(number) == size
