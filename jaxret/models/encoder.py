"""Transformer encoder layers: CLIP's, BERT's and the semantic slots'.

They share attention and MLP and differ in where they normalise and add.
"""
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.models import attention as attention_lib
from jaxret.models import layers

ACTIVATIONS = {
    'gelu': functools.partial(nn.gelu, approximate=False),
    'gelu_pytorch_tanh': functools.partial(nn.gelu, approximate=True),
    'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Sizes and numerics of a stack of layers.

  width D, mlp_width F, heads N. `dropout` acts on attention weights and on
  what a layer adds, and only when a `dropout` key is given. `dtype` is that of
  the computation, `param_dtype` that of the stored weights. `attention`: see
  attention.check_attention.
  """
  width: int
  mlp_width: int
  layers: int
  heads: int
  activation: str = 'gelu'
  norm_eps: float = 1e-5
  dropout: float = 0.0
  dtype: Any = 'float32'
  param_dtype: Any = 'float32'
  remat: str | bool = 'none'
  attention: str = 'xla'

  def __post_init__(self):
    if self.width % self.heads:
      raise ValueError(f'encoder: width {self.width} is no multiple of its '
                       f'{self.heads} heads: change one of them')
    if self.activation not in ACTIVATIONS:
      raise ValueError(f'encoder: activation {self.activation!r} is not known; '
                       f'want one of {", ".join(ACTIVATIONS)}')
    layers.remat_policy(self.remat)
    attention_lib.check_attention(self.attention, self.width // self.heads,
                           self.dtype, self.dropout)

  def dense(self, features, use_bias=True, **kwargs):
    return layers.Dense(features, use_bias, dtype=self.dtype,
                        param_dtype=self.param_dtype, **kwargs)

  def norm(self, name=None):
    # The fast variance E[x^2] - E[x]^2 loses digits.
    return nn.LayerNorm(self.norm_eps, dtype=self.dtype,
                        param_dtype=self.param_dtype,
                        use_fast_variance=False, name=name)


def regularize(module, x, rate):
  """Dropout on x, if the module was given a key for it."""
  if not rate or not module.has_rng('dropout'):
    return x
  return layers.dropout(module.make_rng('dropout'), x, rate)


class Attention(nn.Module):
  """Multi-head attention with a bias on all four projections."""
  config: EncoderConfig

  @nn.compact
  def __call__(self, x, memory, mask):
    """x [B, T, D] attends to memory [B, S, D]; mask bool to [B, T, S]."""
    c = self.config
    def heads(name, source):
      y = c.dense(c.width, name=name)(source)
      return y.reshape(*y.shape[:2], c.heads, -1)
    def drop(weights):
      return regularize(self, weights, c.dropout)
    out, _ = attention_lib.attention(
        heads('q', x), heads('k', memory), heads('v', memory), mask,
        drop if c.dropout else None, c.attention)
    out = out.astype(c.dtype).reshape(x.shape)
    return c.dense(c.width, name='o')(out)


class Mlp(nn.Module):
  """Two layers; `hidden_dropout` between them."""
  config: EncoderConfig
  hidden_dropout: float = 0.0

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = ACTIVATIONS[c.activation](c.dense(c.mlp_width, name='in')(x))
    x = regularize(self, x, self.hidden_dropout)
    return c.dense(c.width, name='out')(x)


class PreNormLayer(nn.Module):
  """CLIP's: each half reads the norm of the stream and adds to it."""
  config: EncoderConfig

  @nn.compact
  def __call__(self, x, mask, at=None):
    """x [B, T, D]; mask bool to [B, T, T]; at: see `tokens_at`."""
    c = self.config
    memory = c.norm('attention_norm')(x)
    y = memory
    if at is not None:
      x, y = tokens_at(x, at), tokens_at(y, at)
      mask = tokens_at(jnp.broadcast_to(
          mask, (*memory.shape[:2], memory.shape[1])), at)
    y = Attention(c, name='attention')(y, memory, mask)
    x = x + regularize(self, y, c.dropout)
    y = Mlp(c, name='mlp')(c.norm('mlp_norm')(x))
    return x + regularize(self, y, c.dropout), None


class PostNormLayer(nn.Module):
  """BERT's: the norm comes after each sum."""
  config: EncoderConfig

  @nn.compact
  def __call__(self, x, mask):
    c = self.config
    y = Attention(c, name='attention')(x, x, mask)
    x = c.norm('attention_norm')(x + regularize(self, y, c.dropout))
    y = Mlp(c, name='mlp')(x)
    return c.norm('mlp_norm')(x + regularize(self, y, c.dropout)), None


class SlotLayer(nn.Module):
  """LECCR's: norm(x + MLP(attention(x, memory))), one sum for both halves.

  There is no sum after the attention, and its norm is never used in the
  authors' code (CrossAttentionLayer in attention.py). memory None = x itself.
  """
  config: EncoderConfig

  @nn.compact
  def __call__(self, x, memory, mask):
    c = self.config
    y = Attention(c, name='attention')(x, x if memory is None else memory, mask)
    y = Mlp(c, c.dropout, name='mlp')(y)
    return c.norm('mlp_norm')(x + regularize(self, y, c.dropout)), None


class Embed(nn.Module):
  """Sums of the embeddings of tokens, positions and, if any, segment types."""
  config: EncoderConfig
  vocab_size: int
  max_positions: int
  types: int = 0

  @nn.compact
  def __call__(self, tokens, positions, types=None):
    """int [B, T], int to [B, T], int [B, T] or None (all 0) -> [B, T, D]."""
    c = self.config
    def rows(name, size, index):
      table = self.param(name, nn.initializers.normal(0.02), (size, c.width),
                         c.param_dtype)
      return table.astype(c.dtype)[index]
    x = rows('tokens', self.vocab_size, tokens)
    x = x + rows('positions', self.max_positions, positions)
    if self.types:
      x = x + rows('types', self.types, 0 if types is None else types)
    return x


def tokens_at(x, at):
  """x [B, T, ...] at one token int [B] of each row: [B, 1, ...]."""
  return x[jnp.arange(len(x)), at][:, None]


def stack(layer, config, name=None, n_shared=1):
  """`config.layers` layers, the last `n_shared` arguments the same for all."""
  scanned = layers.scan_layers(layer, config.layers, remat=config.remat,
                               in_axes=(nn.broadcast,) * n_shared)
  return scanned(config, name=name)


def stack_at(parent, config, name, x, mask, at):
  """`stack` of PreNormLayer at one token int [B] of each row: [B, D].

  Its last layer computes the others' keys and values and nothing else of them,
  which saves about a layer's work less a sixth. parent: the module whose
  parameter `name` it is. Without dropout.
  """
  if parent.is_initializing():
    x, _ = stack(PreNormLayer, config, name)(x, mask)
    return tokens_at(x, at)[:, 0]
  params, layer = parent.variables['params'][name], PreNormLayer(
      config, parent=None)
  def of(i):
    return {'params': jax.tree.map(lambda leaf: leaf[i], params)}
  x, _ = jax.lax.scan(lambda x, i: layer.apply(of(i), x, mask), x,
                      jnp.arange(config.layers - 1))
  return layer.apply(of(-1), x, mask, at)[0][:, 0]
