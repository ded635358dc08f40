"""Low-rank adaptation beside a frozen base."""
import dataclasses
import functools

import flax.linen as nn
import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.data import types
from jaxret.models import decoder as decoder_lib
from jaxret.models import layers
from jaxret.models import lora as lora_lib
from jaxret.models.videochat import model as vlm_lib

TARGETS = ('decoder/layers/attention/[qkvo]', 'decoder/lm_head',
           'projector/(vtg|tvg)/(in|out)')
SCALE = 1.5
CONFIG = decoder_lib.DecoderConfig(
    vocab_size=30, width=16, mlp_width=24, layers=2, heads=4, kv_heads=2,
    head_width=4, lora_scale=SCALE)
FEATURES = np.random.default_rng(0).normal(
    size=(1, 2, 3, 6)).astype(np.float32)
TOKENS = np.array([[3, *[types.VISUAL] * 6, 5, 7]])


@pytest.fixture(scope='module')
def params():
  return vlm_lib.Vlm(CONFIG, 6).init(
      jax.random.key(0), FEATURES, TOKENS)['params']


def outputs(params, lora=None):
  """(logits, clip queries) of one sequence."""
  variables = {'params': params} | ({'lora': lora} if lora else {})
  terms, queries = jax.jit(vlm_lib.Vlm(CONFIG, 6).apply)(
      variables, FEATURES, TOKENS)
  return sum(left @ right for left, right in terms), queries


@pytest.mark.slow
def test_init_is_that_of_peft(params):
  lora = lora_lib.init(jax.random.key(1), params, TARGETS, rank=4)
  flat = traverse.flatten_dict(lora, sep='/')
  assert set(path.rpartition('/')[0] for path in flat) == {
      *(f'decoder/layers/attention/{name}' for name in 'qkvo'),
      'decoder/lm_head', 'projector/vtg/in', 'projector/vtg/out',
      'projector/tvg/in', 'projector/tvg/out'}
  assert flat['decoder/layers/attention/k/a'].shape == (2, 16, 4)
  assert flat['decoder/layers/attention/k/b'].shape == (2, 4, 8)
  for path, leaf in flat.items():
    assert leaf.dtype == jnp.float32
    if path.endswith('/b'):
      assert not leaf.any()
    else:
      bound = leaf.shape[-2] ** -0.5
      assert 0.8 * bound < np.abs(leaf).max() <= bound
  drawn = [flat[f'projector/{name}/in/a'] for name in ('vtg', 'tvg')]
  assert np.abs(drawn[0] - drawn[1]).max() > 0.1
  for got, want in zip(outputs(params, lora), outputs(params)):
    # b is zero; the two programs are fused differently, so not bit for bit.
    np.testing.assert_allclose(got, want, atol=2e-6)


def trained(params):
  """Factors as after training: none of them zero."""
  lora = lora_lib.init(jax.random.key(1), params, TARGETS, rank=4)
  leaves, tree = jax.tree.flatten(lora)
  rng = np.random.default_rng(3)
  return jax.tree.unflatten(tree, [
      0.3 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])


@pytest.mark.slow
def test_merged_weights_give_the_outputs_of_factors_beside_the_base(params):
  lora = trained(params)
  merged = lora_lib.merge(params, lora, SCALE)
  base, beside, folded = (
      outputs(params), outputs(params, lora), outputs(merged))
  for plain, got, want in zip(base, beside, folded):
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert np.abs(got - plain).max() > 0.1
  layer = 1
  np.testing.assert_allclose(
      merged['decoder']['layers']['attention']['v']['kernel'][layer],
      params['decoder']['layers']['attention']['v']['kernel'][layer]
      + SCALE * lora['decoder']['layers']['attention']['v']['a'][layer]
      @ lora['decoder']['layers']['attention']['v']['b'][layer], atol=1e-6)


def test_merging_keeps_the_dtype_and_adds_in_float32(params):
  narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
  lora = trained(params)
  merged = lora_lib.merge(narrow, lora, SCALE)
  kernel = merged['projector']['vtg']['in']['kernel']
  assert kernel.dtype == jnp.bfloat16
  factors = lora['projector']['vtg']['in']
  want = (narrow['projector']['vtg']['in']['kernel'].astype(jnp.float32)
          + SCALE * factors['a'] @ factors['b'])
  np.testing.assert_array_equal(kernel, want.astype(jnp.bfloat16))


def test_a_target_that_names_no_kernel_is_refused(params):
  with pytest.raises(ValueError, match="'decoder/layers/attn/q' names no") as (
      caught):
    lora_lib.init(jax.random.key(0), params, ('decoder/layers/attn/q',), 4)
  assert '\n' not in str(caught.value)


class Probe(nn.Module):
  """A layer that hands on its input and gives out its low-rank term."""

  @nn.compact
  def __call__(self, x):
    return x, layers.Dense(
        x.shape[-1], lora_dropout=0.5, name='dense',
        kernel_init=nn.initializers.zeros)(x)


def test_dropout_needs_a_key_and_differs_by_layer_and_row():
  n_layers, width = 3, 64
  eye = jnp.broadcast_to(jnp.eye(width), (n_layers, width, width))
  module = layers.scan_layers(Probe, n_layers)()
  x = jnp.ones((2, width))
  params = module.init(jax.random.key(0), x)['params']
  variables = {'params': params, 'lora': {'dense': {'a': eye, 'b': eye}}}
  def terms(key=None):
    rngs = None if key is None else {'dropout': jax.random.key(key)}
    return np.asarray(module.apply(variables, x, rngs=rngs)[1])
  np.testing.assert_array_equal(terms(), np.ones((n_layers, 2, width)))
  dropped = terms(key=1)
  # Kept inputs are scaled so that the mean stays.
  assert set(np.unique(dropped)) == {0.0, 2.0}
  assert abs(dropped.mean() - 1) < 0.2
  masks = {row.tobytes() for row in dropped.reshape(-1, width)}
  assert len(masks) == n_layers * 2
  np.testing.assert_array_equal(dropped, terms(key=1))
  assert (dropped != terms(key=2)).any()


def test_dropout_leaves_the_base_alone(params):
  """With all low-rank terms zero it changes nothing."""
  lora = lora_lib.init(jax.random.key(1), params, TARGETS, rank=4)
  config = dataclasses.replace(CONFIG, lora_dropout=0.5)
  run = functools.partial(vlm_lib.Vlm(config, 6).apply,
                          {'params': params, 'lora': lora}, FEATURES, TOKENS)
  plain = jax.jit(run)()[1]
  dropped = jax.jit(functools.partial(
      run, rngs={'dropout': jax.random.key(2)}))()[1]
  np.testing.assert_allclose(dropped, plain, atol=1e-6)


def test_dropout_keeps_its_share_without_a_pattern():
  """Rate, scale, neighbours in both directions, other keys: as if drawn."""
  x = jnp.ones((400, 300))
  kept = np.asarray(layers.dropout(jax.random.key(0), x, 0.3))
  np.testing.assert_allclose(kept[kept > 0], 1 / 0.7, rtol=1e-6)
  other = np.asarray(layers.dropout(jax.random.key(1), x, 0.3))
  mask = kept > 0
  # Six standard deviations of a share of 120,000 draws.
  for share, wanted in (
      (mask.mean(), 0.7), ((mask[1:] & mask[:-1]).mean(), 0.49),
      ((mask[:, 1:] & mask[:, :-1]).mean(), 0.49),
      ((mask & (other > 0)).mean(), 0.49)):
    assert abs(share - wanted) < 6 * (wanted * (1 - wanted) / x.size) ** 0.5
