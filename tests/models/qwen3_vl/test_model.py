"""Qwen3-VL's parts together: meshes, long videos, training, refusals."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import losses, sharding
from jaxret.models import deepstack, lora
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen3_vl import model as qwen3_vl
from tests import tiny_qwen3_vl

CONFIG = tiny_qwen3_vl.CONFIG
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)


def embed(config, params, batch):
  return jax.jit(config.module().apply)(params, batch)


def contrast(config, params, batch):
  """InfoNCE of the first half of the rows against the second."""
  vectors = config.module().apply(params, batch)
  query, candidate = jnp.split(vectors, 2)
  return jnp.mean(losses.modal_contrastive(query, candidate, 0.1))


def on_mesh(shape, count, config=CONFIG):
  """(embeddings, loss, gradients) on so many devices."""
  mesh = sharding.make_mesh(shape, jax.devices()[:count])
  params = tiny_qwen3_vl.params()
  params = jax.device_put(params, sharding.shardings(mesh, params))
  batch = sharding.global_batch(mesh, tiny_qwen3_vl.batch())
  with jax.set_mesh(mesh):
    vectors = embed(config, params, batch)
    loss, gradients = jax.jit(jax.value_and_grad(
        functools.partial(contrast, config)))(params, batch)
  return sharding.to_host((vectors, loss, gradients))


@pytest.fixture(scope='module')
def alone():
  return on_mesh({'data': 1}, 1)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [
    {'data': 2, 'fsdp': 2, 'tensor': 2},
    pytest.param({'data': 8}, marks=pytest.mark.slow)])
def test_eight_devices_give_what_one_gives(alone, shape):
  many = on_mesh(shape, 8)
  np.testing.assert_allclose(many[0], alone[0], atol=2e-6)
  np.testing.assert_allclose(many[1], alone[1], rtol=1e-5)
  for path, leaf in sharding.flatten(alone[2]).items():
    np.testing.assert_allclose(
        sharding.flatten(many[2])[path], leaf, err_msg=path,
        atol=2e-5 * max(1, np.abs(leaf).max()))


@pytest.mark.slow
def test_every_parameter_gets_a_gradient(alone):
  for path, leaf in sharding.flatten(alone[2]).items():
    assert np.abs(leaf).max() > 0, path


@pytest.mark.slow
def test_gradients_are_the_same_with_remat(alone):
  _, loss, gradients = on_mesh(
      {'data': 1}, 1, tiny_qwen3_vl.with_numerics(CONFIG, remat=True))
  np.testing.assert_allclose(loss, alone[1], rtol=1e-6)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5),
               gradients, alone[2])


@pytest.mark.slow
def test_rows_of_long_videos_are_seen_in_turn(alone, monkeypatch):
  """With room for a row at a time: the same embeddings."""
  batch = tiny_qwen3_vl.batch()
  assert batch['segments'].shape[1] > 1
  monkeypatch.setattr(qwen2_vl, 'PATCHES_AT_ONCE', 1)
  vectors = jax.jit(lambda params: CONFIG.module().apply(params, batch))(
      tiny_qwen3_vl.params())
  np.testing.assert_allclose(vectors, alone[0], atol=1e-6)


def temporary_bytes(n_rows):
  """What a batch of one long video takes besides its inputs and weights."""
  batch = {name: jax.ShapeDtypeStruct((1, *shape), dtype) for name, (
      dtype, *shape) in {
          'tokens': (jnp.int32, 64), 'length': (jnp.int32,),
          'positions': (jnp.int32, 3, 64), 'visual_index': (jnp.int32, 64),
          'patches': (jnp.uint8, n_rows, 256, CONFIG.vision.patch_values),
          'segments': (jnp.int32, n_rows, 256),
          'coordinates': (jnp.int32, n_rows, 256, 4)}.items()}
  compiled = jax.jit(CONFIG.module().apply).lower(
      tiny_qwen3_vl.params(), batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_a_longer_video_takes_no_more_room_for_attention(monkeypatch):
  """Four times the frames: less than one frame's scores more, per token."""
  monkeypatch.setattr(qwen2_vl, 'PATCHES_AT_ONCE', 256)
  scores = CONFIG.vision.heads * 256 ** 2 * 4
  few, many = temporary_bytes(8), temporary_bytes(32)
  tokens = 24 * 64 * 16 * 4 * (1 + len(CONFIG.vision.deepstack))
  assert many - few < scores + 6 * tokens


def test_visual_features_enter_behind_their_layer_alone():
  features = np.random.default_rng(0).normal(size=(2, 1, 3, 4))
  index = np.array([[-1, 2, 0, -1]])
  visual = deepstack.Visual(jnp.array(features), jnp.array(index))
  x = jnp.ones((1, 4, 4))
  for layer in range(3):
    got = jax.jit(visual.add_to)(x, layer)
    want = np.ones((1, 4, 4))
    if layer < 2:
      want[0, 1] += features[layer, 0, 2]
      want[0, 2] += features[layer, 0, 0]
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_lora_at_its_start_changes_nothing():
  params = tiny_qwen3_vl.params()
  factors = lora.init(jax.random.key(0), params['params'], LORA, 2)
  batch = tiny_qwen3_vl.batch()
  np.testing.assert_allclose(
      embed(CONFIG, {**params, 'lora': factors}, batch),
      embed(CONFIG, params, batch), atol=1e-6)
  places = sharding.shardings(
      sharding.make_mesh({'fsdp': 4, 'tensor': 2}), {'lora': factors})
  assert all(jax.tree.leaves(places))


def fields(**changes):
  return dataclasses.replace(CONFIG.decoder, **changes)


@pytest.mark.parametrize('make, message', [
    (lambda: qwen3_vl.Qwen3VlConfig(
        fields(rope_sections=()), CONFIG.vision),
     r'rope_sections \(\): want three numbers .* sum to 6'),
    (lambda: qwen3_vl.Qwen3VlConfig(
        fields(rope_sections=(1, 3, 2)), CONFIG.vision), 'at most a third'),
    (lambda: qwen3_vl.Qwen3VlConfig(fields(width=20), CONFIG.vision),
     'tokens of width 16, the decoder wants 20'),
    (lambda: qwen3_vl.Qwen3VlConfig(fields(layers=1), CONFIG.vision),
     '2 DeepStack levels, the decoder has 1 layers')])
def test_sizes_that_do_not_fit_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
