"""NV-Embed's latent attention, plain and folded, with gradients."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models.llava import latent_attention, mm_embed
from tests.parity import mm_embed_reference as reference
from tests.parity.mm_embed_reference import EMBEDDINGS, HIDDEN

FOLDED = 1.25e-6  # relative to the largest element


@pytest.fixture(scope='module')
def arrays(mm_embed_golden):
  return reference.read(mm_embed_golden, 'latent/latent.npz')


@pytest.fixture(scope='module')
def config(mm_embed_golden):
  sizes = reference.table(mm_embed_golden, 'latent/config.json')
  return latent_attention.LatentConfig(
      sizes['hidden'], sizes['num_latents'], sizes['heads'],
      sizes['dim_head'], sizes['ff_mult'], sizes['layer_norm_eps'])


@pytest.fixture(scope='module')
def params(arrays, config):
  abstract = jax.eval_shape(
      latent_attention.LatentAttention(config).init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 1, config.width), jnp.float32))
  return reference.latent_params(
      arrays, {'latent_attention': abstract['params']}, 'param.',
      'param.latents')


def outputs(config, params, hidden, mask):
  """(outputs of the tokens, embeddings)."""
  tokens = latent_attention.LatentAttention(config).apply(
      {'params': params}, hidden)
  return tokens, mm_embed.pool(tokens, mask)


def run(config, params, arrays):
  return jax.jit(outputs, static_argnums=0)(
      config, params, arrays['hiddens'], arrays['pool_mask'].astype(bool))


def test_mm_embed_latent_attention(arrays, config, params):
  tokens, pooled = run(config, params, arrays)
  np.testing.assert_allclose(tokens, arrays['tokens'], atol=HIDDEN)
  np.testing.assert_allclose(tokens, arrays['tokens_f64'], atol=HIDDEN)
  np.testing.assert_allclose(pooled, arrays['pooled'], atol=EMBEDDINGS)
  np.testing.assert_allclose(pooled, arrays['pooled_f64'], atol=EMBEDDINGS)
  mask = arrays['pool_mask'].astype(bool)
  mean = np.asarray(tokens)
  mean = np.stack([row[keep].mean(0) for row, keep in zip(mean, mask)])
  np.testing.assert_allclose(
      mean, arrays['pooled_unnormalised'], atol=HIDDEN)


def test_mm_embed_folded_latent_attention(arrays, config, params):
  folded = latent_attention.LatentConfig(
      **{**config.__dict__, 'folded': True})
  tokens, pooled = run(folded, latent_attention.fold(params, config), arrays)
  plain, _ = run(config, params, arrays)
  np.testing.assert_allclose(
      tokens, plain, rtol=0, atol=FOLDED * np.abs(plain).max())
  np.testing.assert_allclose(pooled, arrays['pooled'], atol=EMBEDDINGS)


@pytest.mark.parametrize('output', ['pooled', 'tokens'])
def test_mm_embed_latent_gradients(arrays, config, params, output):
  """Of the pooled vectors for all parameters; of the tokens for some."""
  mask = arrays['pool_mask'].astype(bool)
  def weighted(params, hidden):
    tokens, pooled = outputs(config, params, hidden, mask)
    value = pooled if output == 'pooled' else tokens
    return jnp.sum(value * arrays[f'cotangent_{output}'])
  gradients, of_hidden = jax.jit(jax.grad(weighted, (0, 1)))(
      params, arrays['hiddens'])
  golden = {'latents': arrays[f'{output}.grad_latents']}
  prefix = f'{output}.grad_param.'
  if any(key.startswith(prefix) for key in arrays):
    golden = reference.latent_params(
        arrays, {'latent_attention': jax.eval_shape(lambda: params)}, prefix,
        f'{output}.grad_latents')
    assert gradients.keys() == golden.keys()
  reference.check_gradients(
      {**{name: gradients[name] for name in golden}, 'hidden': of_hidden},
      {**golden, 'hidden': arrays[f'{output}.grad_hiddens']})
