"""What methods with LoRA share: how they start, and what they end as."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret import sharding
from jaxret.data import media
from jaxret.methods import base

TARGETS = 'decoder/layers/attention/[qo]',
RANK = 4


def model(key):
  """Random kernels, of which the targets name two of three."""
  shapes = {'q': (2, 16, 8), 'k': (2, 16, 8), 'o': (2, 8, 16)}
  keys = jax.random.split(key, len(shapes))
  return {'params': {'decoder': {'layers': {'attention': {
      name: {'kernel': jax.random.normal(k, shape)}
      for k, (name, shape) in zip(keys, shapes.items())}}}}}


def settings(rank=RANK, alpha=6):
  return ConfigDict({'model': {'lora': {
      'rank': rank, 'alpha': alpha, 'dropout': 0.25}}})


def start(rank):
  return functools.partial(base.init, model, TARGETS, rank)


def attention(params):
  return params['decoder']['layers']['attention']


@pytest.mark.parametrize('rank, alpha, scale', [
    (8, 64, 8.0), (8, 4, 0.5), (0, 64, 1.0)])
def test_scale_is_alpha_by_rank(rank, alpha, scale):
  assert base.lora_fields(settings(rank, alpha).model.lora) == {
      'lora_scale': scale, 'lora_dropout': 0.25}


def test_random_weights_are_the_same_with_factors_beside_them():
  plain, beside = (start(rank)(jax.random.key(3)) for rank in (0, RANK))
  assert set(plain) == {'params'} and set(beside) == {'params', 'lora'}
  for got, want in zip(jax.tree.leaves(beside['params']),
                       jax.tree.leaves(plain['params']), strict=True):
    np.testing.assert_array_equal(got, want)
  assert {name: (part['a'].shape, part['b'].shape) for name, part in attention(
      beside['lora']).items()} == {
          'q': ((2, 16, RANK), (2, RANK, 8)),
          'o': ((2, 8, RANK), (2, RANK, 16))}


def test_added_factors_are_those_of_the_start_on_the_mesh():
  """As on one device, split over eight; the weights stay the given ones."""
  params, key = model(jax.random.key(9)), jax.random.key(3)
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 4, 'tensor': 2})
  got = base.add_lora(start(RANK), params, key, mesh)
  assert got['params'] is params['params']
  want = start(RANK)(key)['lora']
  places = sharding.shardings(mesh, {'lora': want})['lora']
  for leaf, other, place in zip(*map(
      jax.tree.leaves, (got['lora'], want, places)), strict=True):
    np.testing.assert_array_equal(leaf, other)
    assert leaf.sharding == place
  split = attention(got['lora'])['q']['a']
  assert split.addressable_shards[0].data.shape == (2, 4, RANK)  # of 16 rows
  assert base.add_lora(start(0), params, key, mesh) is params


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_what_was_trained_is_folded_in_once(dtype):
  """Against numpy, layer by layer; nothing else changes."""
  params = start(RANK)(jax.random.key(0))
  params['params'] = jax.tree.map(
      lambda leaf: leaf.astype(dtype), params['params'])
  params['lora'] = jax.tree.map(
      lambda leaf: leaf + 0.3, params['lora'])  # no factor is zero
  before = jax.tree.map(np.array, params)
  merged = base.merged(settings(), params)
  assert set(merged) == {'params'}
  for name, part in attention(merged['params']).items():
    kernel = attention(before['params'])[name]['kernel']
    want = kernel.astype(np.float64)
    if name != 'k':
      factors = attention(before['lora'])[name]
      for layer in range(2):
        want[layer] += 6 / RANK * (
            factors['a'][layer].astype(np.float64) @ factors['b'][layer])
      assert abs(want - kernel.astype(np.float64)).max() > 0.1
    assert part['kernel'].dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 0.02
    np.testing.assert_allclose(
        np.asarray(part['kernel'], np.float64), want, atol=tolerance,
        rtol=tolerance)
  assert base.merged(settings(), merged) is merged


def test_what_is_stored_of_media_says_how_they_were_read():
  """Numbers of pixels that were made otherwise are not taken for ours."""
  said = []
  for config in ({'data': {}}, {'data': {'alpha': 'white'}},
                 {'data': {'alpha': 'released'}}):
    said.append(base.media_fingerprint(ConfigDict(config)))
  assert said[0] == said[1] == {'reading': media.READING, 'alpha': 'white'}
  assert said[2] == {'reading': media.READING, 'alpha': 'released'}
  assert media.READING > 1  # that of stores which do not say it
