"""Qwen2.5-VL's vision tower: windows, blocks that see all, bounded work."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.models import attention as attention_lib
from jaxret.models.qwen2_vl import vision as qwen2_vl_vision
from jaxret.models.qwen25_vl import vision

# Windows of 2 x 2 tokens, 16 patches; the first of two blocks sees all.
SMALL = vision.VisionConfig(
    out_width=12, width=16, layers=2, heads=2, mlp_width=24, window_px=56,
    full_blocks=(0,))
GRIDS = [(2, 12, 8), (1, 4, 6), (1, 10, 14)]


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rows_of(grids, window=2):
  patches = max(visual_tokens.slices(grids)) + 12
  n_rows = visual_tokens.fill(visual_tokens.slices(grids), patches)[1]
  return visual_tokens.lay_out(grids, n_rows, patches, window=window)


def own_windows(rows, side=4):
  """{(slice, row of windows, column)} of each patch, by hand."""
  return np.concatenate(
      [rows.segments[..., None], rows.coordinates // side], -1)


def test_windows_are_numbered_in_order():
  rows = rows_of(GRIDS)
  got = np.asarray(vision.windows(rows.segments, rows.coordinates, 4))
  want = own_windows(rows)
  for row, numbers in zip(want, got):
    same = (row[:, None] == row[None]).all(-1)
    np.testing.assert_array_equal(same, numbers[:, None] == numbers[None])


@pytest.mark.parametrize('length', [5, 63, 64, 65, 100, 128, 150])
def test_near_attention_is_attention_among_equal_segments(length):
  query, key, value = (normal(2, length, 2, 4, seed=i) for i in range(3))
  random = np.random.default_rng(0)
  sizes = random.integers(1, 17, (2, length))
  segments = np.stack([np.repeat(np.arange(length), size)[:length]
                       for size in sizes])
  want, _ = attention_lib.attention(
      query, key, value, segments[:, :, None] == segments[:, None])
  np.testing.assert_allclose(
      vision.attend_near(query, key, value, segments, 16), want, atol=1e-6)


def test_near_attention_compares_with_no_more_than_it_must():
  """FLOPs grow with the length, not with its square."""
  def flops(length):
    heads = jax.ShapeDtypeStruct((1, length, 2, 8), jnp.float32)
    segments = jax.ShapeDtypeStruct((1, length), jnp.int32)
    compiled = jax.jit(functools.partial(vision.attend_near, reach=16)).lower(
        heads, heads, heads, segments).compile()
    return compiled.cost_analysis()['flops']
  assert flops(4096) < 2.2 * flops(2048)


@pytest.fixture(scope='module')
def towers():
  """{blocks that see all: function of patches -> tokens}, and the Rows."""
  rows, found = rows_of(GRIDS), {}
  patches = normal(*rows.segments.shape, SMALL.patch_values)
  for full in ((), (0,), (0, 1)):
    module = vision.VisionConfig(
        out_width=12, width=16, layers=2, heads=2, mlp_width=24, window_px=56,
        full_blocks=full).module()
    params = module.init(
        jax.random.key(0), patches, rows.segments, rows.coordinates)
    apply = jax.jit(module.apply)
    found[full] = lambda patches, apply=apply, params=params: np.asarray(
        apply(params, patches, rows.segments, rows.coordinates))
  return found, rows, patches


@pytest.mark.slow
def test_a_patch_sees_its_window_or_its_slice(towers):
  """Changing one window changes itself alone, or all of its slice."""
  found, rows, patches = towers
  windows = own_windows(rows)
  for chosen in (windows[0, 0], windows[-1, 30]):
    mine = (windows == chosen).all(-1)
    its_slice = windows[..., 0] == chosen[0]
    changed = np.where(mine[..., None], -patches, patches)
    for full, seen in (((), mine), ((0,), its_slice), ((0, 1), its_slice)):
      moved = np.abs(found[full](changed) - found[full](patches)).max(-1) > 1e-6
      own = seen.reshape(*moved.shape, 4)[..., 0]
      real = rows.segments.reshape(*moved.shape, 4)[..., 0] > 0
      np.testing.assert_array_equal((moved & real), own & real, str(full))


def test_order_of_windows_does_not_matter_where_all_see_all(towers):
  """The same tokens from rows that are not ordered by windows."""
  found, rows, patches = towers
  plain = rows_of(GRIDS, window=0)
  moved = np.zeros_like(patches).reshape(-1, patches.shape[-1])
  moved[plain.patch_index] = patches.reshape(moved.shape)[rows.patch_index]
  module = vision.VisionConfig(
      out_width=12, width=16, layers=2, heads=2, mlp_width=24, window_px=56,
      full_blocks=(0, 1)).module()
  params = module.init(
      jax.random.key(0), patches, rows.segments, rows.coordinates)
  got = np.asarray(jax.jit(module.apply)(
      params, moved.reshape(patches.shape), plain.segments, plain.coordinates))
  np.testing.assert_allclose(
      got.reshape(-1, 12)[plain.patch_index[::4] // 4],
      found[0, 1](patches).reshape(-1, 12)[rows.patch_index[::4] // 4],
      atol=1e-5)


@pytest.mark.parametrize('fields, message', [
    ({'window_px': 14}, 'windows of 14 pixels, tokens of 28'),
    ({'full_blocks': (0, 2)}, 'block 2 is to see all, there are 2'),
    ({'tokens_per_second': 0}, 'got tokens_per_second = 0, want more'),
    ({'width': 18}, 'width 18 with 2 heads')])
def test_sizes_that_do_not_fit_are_refused(fields, message):
  sizes = {'out_width': 12, 'width': 16, 'layers': 2, 'heads': 2,
           'full_blocks': (0,)}
  with pytest.raises(ValueError, match=message):
    vision.VisionConfig(**{**sizes, **fields})


def test_flops_count_the_matrix_products():
  """Two for each multiplication of a kernel, and of attention in its part."""
  rows = visual_tokens.lay_out([(1, 8, 8)], 1, 64, window=2)
  shapes = jax.eval_shape(
      SMALL.module().init, jax.random.key(0),
      normal(1, 64, SMALL.patch_values), rows.segments, rows.coordinates)
  patch, merged = 0, 0
  for path, leaf in sharding.flatten(shapes['params']).items():
    if path.endswith('/kernel'):
      if path.startswith('merger/'):
        merged += leaf.size
      else:
        patch += leaf.size
  # One block compares a patch with 64 others, one with 16.
  want = 2 * patch + 2 * merged / 4 + 2 * 2 * SMALL.width * (64 + 16)
  assert qwen2_vl_vision.flops_per_patch(SMALL, 64) == want
