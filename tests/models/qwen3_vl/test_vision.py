"""Qwen3-VL's vision tower: its table of positions, blocks and mergers."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen3_vl import layout
from jaxret.models.qwen2_vl import vision as qwen2_vl
from jaxret.models.qwen3_vl import vision
from tests import tiny_qwen3_vl

CONFIG = tiny_qwen3_vl.CONFIG.vision


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def laid_out(grids, n_rows, row_patches):
  rows = visual_tokens.lay_out(grids, n_rows, row_patches)
  return rows, layout.with_extents(rows.coordinates, rows.segments, grids)


def test_the_table_is_stretched_from_end_to_end():
  """By hand: corners on corners, bilinear between, column after row."""
  side = 3
  table = normal(side * side, 5)
  square = table.reshape(side, side, 5)
  h, w = 4, 6
  coordinates = np.array([(r, c, h, w) for r in range(h) for c in range(w)])
  got = np.asarray(vision.table_positions(jnp.array(table), coordinates))
  got = got.reshape(h, w, 5)
  for r, c in np.ndindex(h, w):
    y, x = r * (side - 1) / (h - 1), c * (side - 1) / (w - 1)
    top, left = min(int(y), side - 2), min(int(x), side - 2)
    dy, dx = y - top, x - left
    want = ((1 - dy) * (1 - dx) * square[top, left]
            + (1 - dy) * dx * square[top, left + 1]
            + dy * (1 - dx) * square[top + 1, left]
            + dy * dx * square[top + 1, left + 1])
    np.testing.assert_allclose(got[r, c], want, atol=1e-5)
  np.testing.assert_array_equal(got[0, 0], square[0, 0])
  np.testing.assert_array_equal(got[-1, -1], square[-1, -1])


def test_one_row_lies_at_the_start_of_the_table():
  assert vision.stretched(jnp.array(0), jnp.array(1), 7) == 0


@pytest.fixture(scope='module')
def tower():
  """(function of patches -> (tokens, levels), Rows, patches)."""
  rows, coordinates = laid_out([(1, 2, 4), (1, 2, 4), (1, 2, 2)], 2, 16)
  params = {'params': tiny_qwen3_vl.params()['params']['vision']}
  apply = jax.jit(vision.VisionTower(CONFIG).apply)
  patches = normal(2, 16, CONFIG.patch_values, seed=1)
  return (lambda patches: jax.tree.map(np.asarray, apply(
      params, patches, rows.segments, coordinates))), rows, patches


def test_a_patch_sees_its_own_slice_alone(tower):
  """Changing one slice changes its tokens, on all levels, and no other's."""
  apply, rows, patches = tower
  before = apply(patches)
  for number in range(1, rows.segments.max() + 1):
    changed = np.where((rows.segments == number)[..., None], -patches, patches)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(
        apply(changed))):
      moved = np.abs(new - old).max(-1) > 1e-6
      own = rows.segments.reshape(2, 4, 4)[..., 0] == number
      np.testing.assert_array_equal(moved, np.broadcast_to(own, moved.shape))


def test_levels_are_of_the_blocks_that_are_named(tower):
  """Level k of a tower is that of one that ends with its block."""
  _, rows, patches = tower
  coordinates = layout.with_extents(
      rows.coordinates, rows.segments, [(1, 2, 4), (1, 2, 4), (1, 2, 2)])
  params = tiny_qwen3_vl.params()['params']['vision']
  def kept(config, params):
    module = vision.VisionTower(config)
    return jax.jit(functools.partial(module.apply, method='hidden'))(
        {'params': params}, patches, rows.segments, coordinates)
  def first(blocks, count):
    return jax.tree.map(lambda leaf: leaf[:count], blocks)
  last, levels = kept(CONFIG, params)
  for level, block in zip(levels, CONFIG.deepstack):
    short = dataclasses.replace(CONFIG, layers=block + 1, deepstack=())
    want, none = kept(short, {**params, 'blocks': first(
        params['blocks'], block + 1)})
    np.testing.assert_allclose(level, want, atol=1e-5)
    assert len(none) == 0
  assert CONFIG.deepstack[-1] == CONFIG.layers - 1
  np.testing.assert_array_equal(levels[-1], last)


def test_bytes_are_from_minus_one_to_one():
  np.testing.assert_allclose(
      vision.pixel_values(np.array([0, 255, 51], np.uint8)), [-1, 1, -0.6],
      atol=1e-6)


@pytest.mark.parametrize('fields, message', [
    ({'positions': 15}, 'got 15 positions, want a square'),
    ({'deepstack': (2, 0)}, r'blocks \(2, 0\), want some of its 3 blocks'),
    ({'deepstack': (3,)}, r'blocks \(3,\), want'),
    ({'deepstack': (1, 1)}, 'ascending'),
    ({'width': 18, 'heads': 3}, 'width 18 with 3 heads')])
def test_sizes_that_do_not_fit_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **fields)


def test_flops_count_the_matrix_products():
  """Two for each multiplication of a kernel, DeepStack's mergers included."""
  rows, coordinates = laid_out([(1, 2, 4)], 1, 8)
  shapes = jax.eval_shape(
      vision.VisionTower(CONFIG).init, jax.random.key(0),
      normal(1, 8, CONFIG.patch_values), rows.segments, coordinates)
  patch, merged = 0, 0
  for path, leaf in sharding.flatten(shapes['params']).items():
    if path.endswith('/kernel'):
      if path.startswith(('merger/', 'deepstack/')):
        merged += leaf.size
      else:
        patch += leaf.size
  want = 2 * patch + 2 * merged / 4 + 2 * 2 * 8 * CONFIG.width * CONFIG.layers
  assert qwen2_vl.flops_per_patch(CONFIG, 8) == want
