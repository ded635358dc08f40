"""CLIP's and SigLIP's embeddings where golden data does not reach."""
import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxret.data import types
from jaxret.models.dual_encoder import model as model_lib
from tests import tiny_dual_encoder as tiny
from tests import tiny_unite

NAMES = 'clip', 'siglip', 'siglip2'


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_one_and_eight_devices_give_the_same(name):
  items = tiny.items()
  one, eight = (
      tiny.model(name, devices, resolution=tiny.RESOLUTION).encode(
          items, show_progress=False) for devices in (1, 8))
  np.testing.assert_allclose(one, eight, rtol=0, atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
  assert one.dtype == np.float32
  assert np.linalg.matrix_rank(one[[0, 1, 4, 5]]) == 4  # none is alike


@pytest.mark.parametrize('name', [
    'clip', *(pytest.param(name, marks=pytest.mark.slow)
              for name in NAMES[1:])])
def test_a_video_is_the_mean_of_its_frames_unit_vectors(name):
  model = tiny.model(name, resolution=tiny.RESOLUTION)
  frames = tiny_unite.pixels(1, 20, 13, 3)
  encode = functools.partial(model.encode, show_progress=False)
  each = encode([{'image': frame} for frame in frames])
  want = each.mean(0) / np.linalg.norm(each.mean(0))
  # Beside a longer one, so that its row has frames that are none.
  longer = {'video': tiny_unite.pixels(2, 20, 13, 5)}
  got = encode([longer, {'video': frames}, {'video': list(frames)}])
  np.testing.assert_allclose(got[1:], [want, want], rtol=0, atol=1e-6)
  np.testing.assert_allclose(encode({'video': frames[:1]}), each[0], atol=1e-6)


def features(eos_id, tokens, length):
  config = tiny.config('clip', eos_id=eos_id)
  apply = jax.jit(functools.partial(config.module().apply, method='texts'))
  return np.asarray(apply(
      tiny.params(config), np.array([tokens]), np.array([length])))


def test_clip_pools_at_the_first_end_or_the_highest_id():
  tokens = [2, 7, 1, 9, 1, 39]
  cut = [*tokens[:3], 0, 0, 0], [*tokens[:4], 0, 0]
  first, highest = features(1, tokens, 5), features(None, tokens, 5)
  np.testing.assert_allclose(first, features(1, cut[0], 3), atol=1e-6)
  np.testing.assert_allclose(
      highest, features(None, cut[1], 4), atol=1e-6)  # padding is none
  assert np.abs(first - highest).max() > 1e-3


def test_what_makes_no_whole_patch_is_not_seen():
  config = tiny.config(image_px=11)
  params = tiny.params(config)
  pixels = tiny_unite.pixels(0, 11, 11)[None, None]
  cut = pixels.copy()
  cut[..., 8:, :] = 0
  cut[..., 8:, :, :] = 0
  apply = jax.jit(config.module().apply)
  one, other, changed = (np.asarray(apply(
      params, {'pixels': x, 'n_frames': np.array([1])}))
                         for x in (pixels, cut, cut // 2))
  np.testing.assert_array_equal(one, other)
  assert np.abs(one - changed).max() > 1e-3


def test_positions_of_the_same_grid_are_the_table():
  table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
  grids = np.array([[3, 3], [1, 2]], np.int32)
  got = np.asarray(model_lib.resized_positions(table, grids, 9))
  np.testing.assert_allclose(got[0], table, atol=1e-6)
  assert np.isfinite(got).all()
  # One row: all rows weigh 1 - distance / 3 from the middle; of two columns,
  # each reaches 1.5 from its own.
  rows = np.array([2, 3, 2]) / 7
  columns = np.array([[5, 3, 0], [0, 3, 5]]) / 8
  want = np.einsum('i,kj,ijd->kd', rows, columns, table.reshape(3, 3, 4))
  np.testing.assert_allclose(got[1, :2], want, atol=1e-6)


@pytest.mark.slow
def test_padding_of_patches_changes_nothing():
  config = tiny.config('siglip2')
  read = tiny.make_reader(config)
  inputs = read(types.Item('x', image=tiny_unite.pixels(0, 9, 30)))
  batch = read.pad([inputs], read.bucket(inputs))
  n = inputs.pixels.shape[1]
  assert n < batch['pixels'].shape[2]
  dirty = {**batch, 'pixels': batch['pixels'].copy()}
  dirty['pixels'][:, :, n:] = 255
  apply = jax.jit(config.module().apply)
  one, other = (apply(tiny.params(config), x) for x in (batch, dirty))
  np.testing.assert_array_equal(one, other)


def test_bfloat16_stays_near():
  config = tiny.config('siglip')
  half = dataclasses.replace(
      config, vision=dataclasses.replace(
          config.vision, encoder=dataclasses.replace(
              config.vision.encoder, dtype='bfloat16')))
  batch = {'pixels': tiny_unite.pixels(0, 8, 8)[None, None],
           'n_frames': np.array([1])}
  one, other = (
      np.asarray(jax.jit(c.module().apply)(tiny.params(config), batch))
      for c in (config, half))
  assert other.dtype == np.float32
  assert 0 < np.abs(one - other).max() < 0.05


def test_abstract_parameters_need_no_pixels():
  shapes = jax.eval_shape(
      lambda key: model_lib.init(tiny.config('siglip2'), key),
      jax.random.key(0))['params']
  assert set(shapes) == {'vision', 'vision_head', 'text_encoder', 'text_head'}
  assert shapes['vision']['positions'].shape == (9, 16)
