"""Layers in 8 bits: near the whole ones, and products that are integers."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.models import decoder as decoder_lib
from jaxret.models import layers, masks, quantized

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=50, width=64, mlp_width=96, layers=2, heads=4, kv_heads=2,
    head_width=16)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def params():
  return decoder_lib.Decoder(CONFIG).init(
      jax.random.key(0), normal(1, 4, 64), np.zeros((1, 4)),
      masks.causal(np.ones((1, 4), bool)))


def nested(variables):
  """As a model holds them."""
  return {name: {'decoder': tree} for name, tree in variables.items()}


def test_codes_are_rounded_by_the_largest_of_each_feature():
  pytest.importorskip('qwix')
  kernel = normal(3, 8, 6)
  tree = {'params': {'decoder': {
      'layers': {'attention': {'q': {'kernel': kernel, 'bias': kernel[:, 0]}}},
      'lm_head': {'kernel': kernel[0]}}}}
  found = sharding.flatten(quantized.quantize(tree, 'int8'))
  place = 'decoder/layers/attention/q'
  assert set(found) == {
      f'quantized/{place}/codes', f'quantized/{place}/scale',
      f'params/{place}/bias', 'params/decoder/lm_head/kernel'}
  scale = np.abs(kernel).max(1, keepdims=True) / 127.5
  np.testing.assert_allclose(found[f'quantized/{place}/scale'], scale,
                             rtol=5e-3)
  codes = found[f'quantized/{place}/codes']
  assert codes.dtype == jnp.int8
  np.testing.assert_allclose(
      codes * found[f'quantized/{place}/scale'], kernel,
      atol=0.6 * scale.max())


@pytest.mark.parametrize('kind, share', [('int8', 0.03), ('fp8', 0.12)])
def test_a_decoder_gives_about_the_same(kind, share):
  pytest.importorskip('qwix')
  x, keys = normal(3, 7, 64), np.ones((3, 7), bool)
  whole = params()
  small = quantized.quantize(nested(whole), kind)
  small = {name: tree['decoder'] for name, tree in small.items()}
  positions = jnp.broadcast_to(jnp.arange(7), (3, 7))
  run = jax.jit(lambda variables: decoder_lib.Decoder(CONFIG).apply(
      variables, x, positions, masks.causal(keys)))
  want, got = np.asarray(run(whole)), np.asarray(run(small))
  error = np.linalg.norm(got - want) / np.linalg.norm(want)
  assert 0 < error < share
  if kind == 'int8':  # multiplied as integers, not turned into floats first
    assert 'tensor<21x64xi8>' in run.lower(small).as_text().replace(
        '3x7x64xi8', '21x64xi8')


def test_low_rank_terms_are_added_to_the_product():
  pytest.importorskip('qwix')
  x, kernel = normal(5, 8), normal(8, 6, seed=1)
  codes, scale = quantized._codes(kernel, jnp.int8)
  lora = {'a': normal(8, 2, seed=2), 'b': normal(2, 6, seed=3)}
  layer = layers.Dense(6, lora_scale=0.5)
  got = layer.apply({'quantized': {'codes': codes, 'scale': scale},
                     'lora': lora}, x)
  without = layer.apply({'quantized': {'codes': codes, 'scale': scale}}, x)
  np.testing.assert_allclose(
      got - without, 0.5 * x @ lora['a'] @ lora['b'], atol=1e-5)
  assert np.abs(without - x @ kernel).max() < 0.1


def test_codes_lie_where_their_kernel_would():
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  tree = {'quantized': {'decoder': {'layers': {'attention': {'q': {
      'codes': np.zeros((3, 8, 6), np.int8),
      'scale': np.zeros((3, 1, 6), np.float32)}}}}}}
  found = sharding.flatten(sharding.shardings(mesh, tree))
  place = 'quantized/decoder/layers/attention/q'
  P = jax.sharding.PartitionSpec
  assert found[f'{place}/codes'].spec == P(None, 'fsdp', 'tensor')
  assert found[f'{place}/scale'].spec == P(None, None, 'tensor')


@pytest.mark.parametrize('tree, kind, message', [
    ({'params': {}}, 'int4', "got 'int4', want one of int8, fp8"),
    ({'params': {'text_encoder': {'kernel': np.ones((2, 2))}}}, 'int8',
     'no layers of a decoder')])
def test_what_cannot_be_is_refused_in_one_line(tree, kind, message):
  with pytest.raises(ValueError, match=message):
    quantized.quantize(tree, kind)
