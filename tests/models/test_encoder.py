"""Encoder layers where golden data does not reach: dropout, and its keys."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models import attention as attention_lib
from jaxret.models import encoder

SIZES = encoder.EncoderConfig(8, 12, 2, 2, dropout=0.5)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, key, *inputs):
  rngs = None if key is None else {'dropout': key}
  return module.apply(params, *inputs, rngs=rngs)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_dropped_attention_weights_by_hand():
  """Dropping what attends to key 0 leaves the others as they were."""
  query, key, value = (normal(1, 3, 2, 4, seed=i) for i in range(3))
  mask = np.ones((1, 1, 1), bool)
  kept = np.array([0.0, 2.0, 1.0])
  got, lse = attention_lib.attention(
      query, key, value, mask, lambda w: w * kept)
  _, whole = attention_lib.attention(query, key, value, mask)
  scores = np.einsum('BTNH,BSNH->BNTS', query, key) / 2
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(
      got, np.einsum('BNTS,BSNH->BTNH', weights * kept, value), atol=1e-5)
  np.testing.assert_array_equal(lse, whole)


@pytest.mark.parametrize('layer, n_arguments', [
    (encoder.PreNormLayer, 1), (encoder.PostNormLayer, 1),
    (encoder.SlotLayer, 2)])
def test_dropout_needs_a_key_and_reaches_every_layer(layer, n_arguments):
  class Module(encoder.nn.Module):
    @encoder.nn.compact
    def __call__(self, x):
      everything = jnp.ones((1, 1, 1), bool)
      arguments = (None, everything)[-n_arguments:]
      return encoder.stack(layer, SIZES, 'layers', n_arguments)(
          x, *arguments)[0]
  x = normal(2, 3, 8)
  params = Module().init(jax.random.key(0), x)
  plain = run(Module(), params, None, x)
  np.testing.assert_array_equal(plain, run(Module(), params, None, x))
  first, second = (run(Module(), params, jax.random.key(i), x)
                   for i in (1, 2))
  assert np.abs(first - plain).max() > 0.01
  assert np.abs(first - second).max() > 0.01
  np.testing.assert_array_equal(
      first, run(Module(), params, jax.random.key(1), x))
