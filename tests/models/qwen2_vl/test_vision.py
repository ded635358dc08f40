"""Qwen2-VL's vision tower: who sees whom, blocks, positions, pixels."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.models.qwen2_vl import vision

SMALL = vision.VisionConfig(
    out_width=12, width=16, layers=1, heads=2, mlp_width=24)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope='module')
def tower():
  """(function of patches, segments, coordinates -> tokens, coordinates)."""
  rows = visual_tokens.lay_out([(2, 2, 4), (1, 2, 2)], 2, 16)
  module = vision.VisionTower(SMALL)
  patches = normal(2, 16, SMALL.patch_values)
  params = module.init(
      jax.random.key(0), patches, rows.segments, rows.coordinates)
  apply = jax.jit(module.apply)
  return (lambda patches: np.asarray(apply(
      params, patches, rows.segments, rows.coordinates))), rows, patches


@pytest.mark.slow
def test_a_patch_sees_its_own_slice_alone(tower):
  """Changing one slice changes the tokens of that slice, and no other."""
  apply, rows, patches = tower
  before = apply(patches)
  for number in range(1, rows.segments.max() + 1):
    changed = np.where((rows.segments == number)[..., None], -patches, patches)
    moved = np.abs(apply(changed) - before).max(-1) > 1e-6
    own = rows.segments.reshape(*moved.shape, 4)[..., 0] == number
    np.testing.assert_array_equal(moved, own)


def test_bytes_are_normalised_per_channel(tower):
  apply, rows, _ = tower
  pixels = np.random.default_rng(1).integers(
      0, 256, (2, 16, SMALL.patch_values), np.uint8)
  scaled = np.empty(pixels.shape, np.float32)
  each = SMALL.patch_values // 3
  for channel, (mean, std) in enumerate(zip(vision.MEAN, vision.STD)):
    part = slice(channel * each, (channel + 1) * each)
    scaled[..., part] = (pixels[..., part] / 255 - mean) / std
  kept = rows.segments[:, ::4] > 0
  np.testing.assert_allclose(
      apply(pixels)[kept], apply(scaled)[kept], atol=1e-5)


@pytest.mark.parametrize('block', [1, 5, 8])
def test_blocks_of_queries_give_the_same_attention(block):
  query, key, value = (normal(2, 12, 2, 4, seed=i) for i in range(3))
  segments = np.array([[1] * 4 + [2] * 8, [1] * 6 + [0] * 6])
  whole = vision.attend(query, key, value, segments, 12)
  np.testing.assert_allclose(
      vision.attend(query, key, value, segments, block), whole, atol=1e-6)
  for row, column in ((0, 3), (0, 7), (1, 2)):  # by hand
    mine = segments[row] == segments[row, column]
    for head in range(2):
      score = key[row, mine, head] @ query[row, column, head] / 2
      weight = np.exp(score) / np.exp(score).sum()
      np.testing.assert_allclose(
          whole[row, column, head], weight @ value[row, mine, head], atol=1e-5)


def test_angles_of_rows_and_columns():
  got = np.asarray(vision.angles(jnp.array([[3, 5]]), 16))
  frequency = 10000.0 ** -(np.arange(4) / 4)
  np.testing.assert_allclose(
      got[0], [*(3 * frequency), *(5 * frequency)], rtol=1e-6)


def test_flops_count_the_matrix_products():
  """Two for each multiplication of a kernel, and of attention in a slice."""
  rows = visual_tokens.lay_out([(1, 2, 4)], 1, 8)
  shapes = jax.eval_shape(
      vision.VisionTower(SMALL).init, jax.random.key(0),
      normal(1, 8, SMALL.patch_values), rows.segments, rows.coordinates)
  patch, merged = 0, 0
  for path, leaf in sharding.flatten(shapes['params']).items():
    if path.endswith('/kernel'):
      if path.startswith('merger/'):
        merged += leaf.size
      else:
        patch += leaf.size
  # A patch compares with 8, and sums 8 values, in each of `width` channels.
  want = 2 * patch + 2 * merged / 4 + 2 * 2 * 8 * SMALL.width * SMALL.layers
  assert vision.flops_per_patch(SMALL, 8) == want
