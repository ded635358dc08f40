"""How prompts of any size are laid out; their scores are in test_prompted."""
import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.scoring.likelihood import prefixes, score

OPTIONS = score.Options(rows=8, columns=16)
RNG = np.random.default_rng(0)
LABELS = [np.append(RNG.integers(0, 3, RNG.integers(3, 9)), [5 + i, 1])
          for i in range(40)]


def mesh(count=1):
  return sharding.make_mesh(devices=jax.devices()[:count])


def prompts(lengths, sizes=None, kinds=None):
  lengths = np.array(lengths)
  if sizes is None:
    sizes = np.ones((len(lengths), 1), int)
  return prefixes.Prompts(
      tuple(map(str, lengths)), lengths, np.array(sizes), np.zeros(
          len(lengths), int) if kinds is None else np.array(kinds), None)


def many(count=50):
  """Of two kinds, and of sizes over three octaves."""
  sizes = RNG.integers(4, 32, (count, 2))
  return prompts(RNG.integers(20, 90, count), sizes,
                 RNG.integers(0, 2, count))


@pytest.mark.parametrize('share', [None, 0.3])
def test_each_pair_is_laid_out_once(share):
  given = many()
  keep = None if share is None else (
      np.random.default_rng(1).random((50, len(LABELS))) < share)
  seen = np.zeros((50, len(LABELS)), int)
  for strip, inputs_of, shape in prefixes._strips(
      given, LABELS, OPTIONS, mesh(), keep):
    assert strip.size <= OPTIONS.rows and shape[0] == strip.length
    assert (given.lengths[strip.rows] <= strip.length).all()
    assert (given.sizes[strip.rows] <= shape[1:]).all()
    assert len(set(given.kinds[strip.rows])) == 1
    sizes = given.sizes[strip.rows]  # what is seen is padded twice at most
    assert (sizes.max(0) <= 2 * sizes.min(0)).all()
    for t, tile in enumerate(strip.tiles):
      _, labels, lengths = inputs_of(strip, t)
      columns = np.broadcast_to(tile.columns, (
          len(strip.rows), tile.columns.shape[-1]))
      real = np.ones(columns.shape, bool) if tile.real is None else tile.real
      for row, place in np.argwhere(real):
        own = row if len(labels) > 1 else 0
        np.testing.assert_array_equal(
            labels[own, place, :lengths[own, place]],
            LABELS[columns[row, place]])
        seen[strip.rows[row], columns[row, place]] += 1
  np.testing.assert_array_equal(seen, 1 if keep is None else keep)


def test_padding_of_prompts_is_weighed_against_all_tokens():
  """Behind many texts one length may do; behind few, padding costs."""
  given = prompts(np.arange(40, 80))
  def laid(labels):
    return prefixes._strips(given, labels, OPTIONS, mesh(), None)
  few, lots = laid(LABELS[:1]), laid(list(RNG.integers(0, 90, (200, 9))))
  assert len({one.strip.length for one in few}) > (
      len({one.strip.length for one in lots})) == 1
  padding = sum((one.strip.length - given.lengths[one.strip.rows]).sum()
                for one in few)
  tokens = given.lengths.sum() + len(LABELS[0]) * 40
  assert padding <= OPTIONS.max_padding / 2 * tokens


def test_few_long_prompts_are_read_together():
  given = prompts([prefixes.TOKENS_AT_ONCE // 2] * 5)
  for count, rows in ((1, 2), (2, 4)):
    strips = prefixes._strips(given, LABELS, OPTIONS, mesh(count), None)
    assert max(one.strip.size for one in strips) == rows


def test_strips_of_one_length_have_one_shape():
  given = prompts([20] * 20, RNG.integers(17, 33, (20, 3)))
  shapes = {one.shape for one in prefixes._strips(
      given, LABELS, OPTIONS, mesh(), None)}
  assert shapes == {(20, *given.sizes.max(0).tolist())}
