"""Latent attention against a loop over tokens, heads and latents."""
import dataclasses
import math

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.models.llava import latent_attention

CONFIG = latent_attention.LatentConfig(
    width=6, latents=5, heads=2, head_width=4, expansion=3)


@pytest.fixture(scope='module')
def params():
  """Random values everywhere: zero biases would hide a missing one."""
  module = latent_attention.LatentAttention(CONFIG)
  shapes = jax.eval_shape(
      module.init, jax.random.key(0), np.zeros((1, 1, 6), np.float32))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: rng.normal(
      0.1, 0.6, leaf.shape).astype(np.float32), shapes['params'])


@pytest.fixture(scope='module')
def hidden():
  return np.random.default_rng(1).normal(size=(2, 3, 6)).astype(np.float32)


def norm(x, params):
  x = x - x.mean()
  return x / math.sqrt((x ** 2).mean() + 1e-5) * params['scale'] + params[
      'bias']


def token(x, params):
  """What one token [D] becomes, in float64."""
  p = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
  latents = [norm(latent, p['latent_norm']) for latent in p['latents']]
  query, heads = norm(x, p['token_norm']) @ p['q']['kernel'], []
  for head in range(2):
    part = slice(4 * head, 4 * head + 4)
    weights = [math.exp(query[part] @ (latent @ p['k']['kernel'])[part] / 2)
               for latent in latents]
    heads.append(sum(
        weight * (latent @ p['v']['kernel'])[part]
        for weight, latent in zip(weights, latents)) / sum(weights))
  x = x + np.concatenate(heads) @ p['o']['kernel']
  y, mlp = norm(x, p['mlp_norm']), p['mlp']
  gate, value = (y @ mlp[name]['kernel'] + mlp[name]['bias']
                 for name in ('gate', 'value'))
  gelu = np.array([g / 2 * (1 + math.erf(g / math.sqrt(2))) for g in gate])
  return x + (value * gelu) @ mlp['out']['kernel'] + mlp['out']['bias']


@pytest.mark.parametrize('folded', [False, True])
def test_each_token_looks_up_the_latents_by_itself(params, hidden, folded):
  want = [[token(x.astype(np.float64), params) for x in row] for row in hidden]
  config = dataclasses.replace(CONFIG, folded=folded)
  if folded:
    params = latent_attention.fold(params, CONFIG)
  module = latent_attention.LatentAttention(config)
  got = jax.jit(module.apply)({'params': params}, hidden)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_flops_count_the_matrix_products(params):
  """Of a token: kernels but those of the latents, scores, and their sums."""
  kernels = {path: leaf.size for path, leaf in sharding.flatten(params).items()
             if path.endswith('/kernel')}
  of_latents = kernels.pop('k/kernel') + kernels.pop('v/kernel')
  assert of_latents == 2 * 6 * 8
  assert latent_attention.flops_per_token(CONFIG) == 2 * (
      sum(kernels.values()) + 2 * 2 * 5 * 4)
  folded = latent_attention.fold(params, CONFIG)
  wide = sum(folded[f'folded_{name}'].size for name in ('keys', 'values'))
  assert latent_attention.flops_per_token(
      dataclasses.replace(CONFIG, folded=True)) == 2 * (wide + sum(
          size for path, size in kernels.items() if path.startswith('mlp/')))
