"""Qwen2-VL's parts: who sees whom, blocks, positions, refusals."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.models import decoder, layers
from jaxret.models.qwen2_vl import files as qwen2_vl_files
from jaxret.models.qwen2_vl import model as qwen2_vl
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


def test_sections_take_their_axis():
  """Each frequency turns by its axis; equal axes are ordinary positions."""
  x, positions = normal(1, 6, 2, 8), np.arange(6)[None]
  axes = np.stack([positions, 2 * positions, positions + 3])
  got = layers.rotary(x, jnp.asarray(axes), 100.0, (1, 2, 1))
  for frequency, axis in enumerate((0, 1, 1, 2)):
    alone = layers.rotary(x, jnp.asarray(axes[axis]), 100.0)
    for half in (frequency, frequency + 4):
      np.testing.assert_allclose(got[..., half], alone[..., half], atol=1e-6)
  same = jnp.broadcast_to(positions, (3, 1, 6))
  np.testing.assert_allclose(
      layers.rotary(x, same, 100.0, (1, 2, 1)),
      layers.rotary(x, jnp.asarray(positions), 100.0), atol=1e-6)


def test_last_hidden_state_of_either_padding():
  hidden = normal(3, 4, 2)
  keys = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], bool)
  np.testing.assert_array_equal(
      qwen2_vl.last(jnp.asarray(hidden), jnp.asarray(keys)),
      hidden[[0, 1, 2], [1, 3, 3]])


def test_unit_vectors():
  x = normal(3, 5)
  np.testing.assert_allclose(
      qwen2_vl.unit(x), x / np.linalg.norm(x, axis=1, keepdims=True),
      rtol=1e-6)
  assert np.isfinite(qwen2_vl.unit(np.zeros((1, 5)))).all()


def text_config(**fields):
  sizes = {'vocab_size': 8, 'width': 12, 'mlp_width': 8, 'layers': 1,
           'heads': 1, 'kv_heads': 1, 'head_width': 8}
  return decoder.DecoderConfig(**{**sizes, **fields})


@pytest.mark.parametrize('make, message', [
    (lambda: qwen2_vl.Qwen2VlConfig(text_config(), SMALL, 'both'),
     "position_mode 'both' is unknown"),
    (lambda: qwen2_vl.Qwen2VlConfig(text_config(), SMALL, 'mrope'),
     r'rope_sections \(\): want three numbers .* sum to 4'),
    (lambda: qwen2_vl.Qwen2VlConfig(text_config(width=16), SMALL),
     'tokens of width 12, the decoder wants 16'),
    (lambda: vision.VisionConfig(out_width=8, width=18, heads=3),
     'width 18 with 3 heads'),
])
def test_sizes_that_do_not_fit_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('fields, message', [
    ({'model_type': 'llama'}, "got model_type 'llama', want qwen2_vl"),
    ({'hidden_act': 'gelu'}, "got hidden_act = 'gelu'"),
    ({'vision_config': {'hidden_act': 'gelu'}}, 'the activation of the tower'),
    ({}, "no field 'num_attention_heads'"),
])
def test_other_models_are_refused(tmp_path, fields, message):
  (tmp_path / 'config.json').write_text(json.dumps(
      {'model_type': 'qwen2_vl', **fields}))
  with pytest.raises(ValueError, match=message):
    qwen2_vl_files.read_config(tmp_path)
  with pytest.raises(ValueError, match='no such file'):
    (tmp_path / 'config.json').unlink()
    qwen2_vl_files.read_config(tmp_path)
