"""How score matrices are cut, against brute force."""
import itertools

import numpy as np
import pytest

from jaxret.scoring.likelihood import tiles


def padding(lengths, caps):
  """Padded tokens over real ones when each length takes the first cap."""
  padded = [min(cap for cap in caps if cap >= length) for length in lengths]
  return sum(padded) / sum(lengths) - 1


def fewest_buckets(lengths, max_padding):
  values = sorted(set(lengths))
  for number in itertools.count(1):
    for caps in itertools.combinations(values, number):
      if caps[-1] == values[-1] and (
          padding(lengths, caps) <= max_padding + 1e-12):
        return number


@pytest.mark.parametrize('max_padding', [0.0, 0.1, 0.3, 10.0])
def test_buckets_are_the_fewest_within_the_padding(max_padding):
  rng = np.random.default_rng(0)
  for number in range(20):
    lengths = rng.integers(1, 12, size=rng.integers(1, 15)).tolist()
    if number % 2:
      lengths = rng.geometric(0.2, size=8).tolist()
    caps = tiles.buckets(lengths, max_padding)
    assert caps == sorted(set(caps)) and set(caps) <= set(lengths)
    assert padding(lengths, caps) <= max_padding + 1e-12
    assert len(caps) == fewest_buckets(lengths, max_padding), lengths


def test_buckets_of_many_captions_pad_a_tenth_at_most():
  lengths = np.random.default_rng(1).lognormal(2.5, 0.6, 5000).astype(int) + 3
  caps = tiles.buckets(lengths)
  assert padding(lengths, caps) <= 0.1
  assert len(caps) <= 12


@pytest.mark.parametrize('n, size, multiple', [
    (1, 4, 1), (10, 4, 1), (10, 4, 8), (17, 5, 2), (64, 64, 8), (3, 100, 8)])
def test_blocks_cover_each_index_once(n, size, multiple):
  lengths = np.random.default_rng(2).integers(3, 30, n)
  blocks = tiles.blocks(lengths, size, 0.1, multiple)
  index = np.concatenate([block.index for block in blocks])
  np.testing.assert_array_equal(np.sort(index), np.arange(n))
  most = -(-size // multiple) * multiple
  for block in blocks:
    assert 1 <= len(block.index) <= most
    assert (lengths[block.index] <= block.length).all()
  for cap in {block.length for block in blocks}:
    # One shape per bucket: only its last block may be shorter.
    sizes = [len(b.index) for b in blocks if b.length == cap]
    assert len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    if len(sizes) > 1:
      assert sizes[0] % multiple == 0
  padded = sum(block.length * len(block.index) for block in blocks)
  assert padded <= 1.1 * lengths.sum()


def test_fill_repeats_indices():
  np.testing.assert_array_equal(
      tiles.fill(np.array([4, 7]), 5), [4, 7, 4, 7, 4])


@pytest.mark.parametrize('per_octave', [2, 4, 8])
def test_rounded_sizes_are_few_and_near(per_octave):
  numbers = np.arange(1, 2049)
  sizes = np.array([tiles.rounded(int(n), per_octave) for n in numbers])
  assert (sizes >= numbers).all()
  assert ((sizes - numbers) * per_octave <= numbers).all()
  assert (np.diff(sizes) >= 0).all() and sizes[-1] == 2048
  assert len(np.unique(sizes)) <= 12 * per_octave
  assert tiles.rounded(0, per_octave) == 0


def test_fixed_blocks_have_shapes_that_nothing_else_decides():
  lengths = np.random.default_rng(0).integers(1, 40, 100)
  blocks = tiles.fixed_blocks(lengths, 9, 8)
  np.testing.assert_array_equal(
      np.sort(np.concatenate([block.index for block in blocks])),
      np.arange(100))
  for block in blocks:
    assert 1 <= len(block.index) <= 9 and block.length % 8 == 0
    assert (block.length - 8 < lengths[block.index]).all()
    assert (lengths[block.index] <= block.length).all()
