"""NV-Embed's latent attention: every token looks up a trained dictionary.

Source: NV-Embed (arXiv 2405.17428) and the authors' code. Tokens are queries,
trained latents are keys and values, so that keys and values do not depend on
the input: for inference they are folded into the projections on either side
(spec §1), which leaves a sixteenth of the weights and a ninth of the work of
the attention.
"""
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.models import attention as attention_lib
from jaxret.models import layers


@dataclasses.dataclass(frozen=True)
class LatentConfig:
  """Sizes and numerics; the defaults are NV-Embed-v1's.

  width D, latents R, heads N, head_width H; the MLP is `expansion` times as
  wide as D. `folded` computes with what `fold` gives. `dtype` is that of the
  computation, `param_dtype` that of the stored weights.
  """
  width: int
  latents: int = 512
  heads: int = 8
  head_width: int = 4096
  expansion: int = 4
  norm_eps: float = 1e-5
  folded: bool = False
  dtype: Any = 'float32'
  param_dtype: Any = 'float32'

  def dense(self, features, **kwargs):
    return layers.Dense(features, dtype=self.dtype,
                        param_dtype=self.param_dtype, **kwargs)

  def norm(self, name):
    # The fast variance E[x^2] - E[x]^2 loses digits.
    return nn.LayerNorm(self.norm_eps, dtype=self.dtype,
                        param_dtype=self.param_dtype,
                        use_fast_variance=False, name=name)


class LatentAttention(nn.Module):
  """Attention to the latents and a gated MLP, each added to its input.

  There is no mask: tokens do not see one another, and padding is left out of
  the pooling that follows.
  """
  config: LatentConfig

  @nn.compact
  def __call__(self, hidden):
    """[B, T, D] -> [B, T, D]."""
    c = self.config
    hidden = hidden.astype(c.dtype)
    attend = self._folded if c.folded else self._plain
    # The residual is the hidden state before its norm.
    x = hidden + attend(c.norm('token_norm')(hidden)).astype(c.dtype)
    return x + GatedMlp(c, name='mlp')(c.norm('mlp_norm')(x))

  def _plain(self, x):
    c = self.config
    latents = self.param('latents', nn.initializers.normal(0.02),
                         (c.latents, c.width), c.param_dtype)
    latents = c.norm('latent_norm')(latents.astype(c.dtype))
    def heads(name, source):
      y = c.dense(c.heads * c.head_width, name=name)(source)
      return y.reshape(1, -1, c.heads, c.head_width)
    # Always 'xla': a head of NV-Embed-v1 is 4096 wide, 16 times what cuDNN has.
    out, _ = attention_lib.attention(
        heads('q', x), heads('k', latents), heads('v', latents),
        jnp.ones((1, 1, 1), bool))
    out = out.astype(c.dtype).reshape(*x.shape[:-1], -1)
    return c.dense(c.width, name='o')(out)

  def _folded(self, x):
    c = self.config
    keys, values = (self.param(
        f'folded_{name}', nn.initializers.normal(0.02),
        (c.heads, c.latents, c.width), c.param_dtype).astype(c.dtype)
        for name in ('keys', 'values'))
    score = jnp.einsum('BTD,NRD->BTNR', x, keys,
                       preferred_element_type=jnp.float32)
    weight = jax.nn.softmax(score, -1).astype(c.dtype)
    return jnp.einsum('BTNR,NRD->BTD', weight, values,
                      preferred_element_type=jnp.float32)


class GatedMlp(nn.Module):
  """GEGLU with the exact GELU; the tanh form moves embeddings by 3e-5."""
  config: LatentConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    def wide(name):
      return c.dense(c.expansion * c.width, use_bias=True, name=name)(x)
    gate = nn.gelu(wide('gate'), approximate=False)
    return c.dense(c.width, use_bias=True, name='out')(wide('value') * gate)


@functools.partial(jax.jit, static_argnums=1)
def keys_and_values(params, config):
  """Of the latents, float32 [R, N, H] each.

  params: of a LatentAttention in the plain form; config: its LatentConfig.
  """
  c = config
  latents = nn.LayerNorm(c.norm_eps, use_fast_variance=False).apply(
      {'params': params['latent_norm']},
      params['latents'].astype(jnp.float32))
  return [jnp.matmul(latents, params[name]['kernel'].astype(jnp.float32),
                     precision='highest').reshape(c.latents, c.heads, -1)
          for name in 'kv']


@functools.partial(jax.jit, static_argnums=1)
def fold(params, config):
  """Parameters of the plain form -> those of the same with `folded` set.

  keys[n, r] = k[n, r] Wq[n] / sqrt(H) and values[n, r] = v[n, r] Wo[n], for
  head n and latent r; computed in float32, stored as they were. See
  `keys_and_values`.
  """
  c = config
  keys, values = keys_and_values(params, config)
  before, after = (params[name]['kernel'].astype(jnp.float32) for name in 'qo')
  keys = jnp.einsum(
      'RNH,DNH->NRD', keys * c.head_width ** -0.5,
      before.reshape(c.width, c.heads, -1), precision='highest')
  values = jnp.einsum(
      'RNH,NHD->NRD', values, after.reshape(c.heads, -1, c.width),
      precision='highest')
  kept = {name: params[name] for name in ('token_norm', 'mlp_norm', 'mlp')}
  dtype = params['latents'].dtype
  return {**kept, 'folded_keys': keys.astype(dtype),
          'folded_values': values.astype(dtype)}


def flops_per_token(config):
  """Forward FLOPs of one token, keys and values of the latents aside."""
  c = config
  mlp = 6.0 * c.expansion * c.width ** 2
  if c.folded:
    return mlp + 4 * c.heads * c.latents * c.width
  return mlp + 4 * c.heads * c.head_width * (c.width + c.latents)
