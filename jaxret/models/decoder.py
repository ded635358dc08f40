"""Qwen2's decoder: grouped-query attention, SwiGLU, and a prefix cache.

Source: Qwen2 technical report (arXiv 2407.10671); checked against golden data.
"""
import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret import sharding
from jaxret.models import layers


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes and numerics of a decoder.

  width D, mlp_width F, heads N, kv_heads K, head_width H; `dtype` is that of
  the computation, `param_dtype` that of the stored weights.
  """
  vocab_size: int
  width: int
  mlp_width: int
  layers: int
  heads: int
  kv_heads: int
  head_width: int
  rope_theta: float = 1e6
  norm_eps: float = 1e-6
  tie_embeddings: bool = False
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: bool = False
  lora_scale: float = 1.0
  lora_dropout: float = 0.0

  def dense(self, features, **kwargs):
    return layers.Dense(features, dtype=self.dtype,
                        param_dtype=self.param_dtype,
                        lora_scale=self.lora_scale,
                        lora_dropout=self.lora_dropout, **kwargs)


class Cache(NamedTuple):
  """Keys and values of a prefix, [L, P, S, K, H]; mask bool [P, S]."""
  key: jax.Array
  value: jax.Array
  mask: jax.Array


class Attention(nn.Module):
  config: DecoderConfig

  @nn.compact
  def __call__(self, x, positions, mask, cached, cache_mask):
    c = self.config
    batch, length, _ = x.shape
    def heads(name, n):
      y = c.dense(n * c.head_width, use_bias=True, name=name)(x)
      return y.reshape(batch, length, n, c.head_width)
    query = layers.rotary(heads('q', c.heads), positions, c.rope_theta)
    key = layers.rotary(heads('k', c.kv_heads), positions, c.rope_theta)
    value = heads('v', c.kv_heads)
    out, lse = layers.attention(query, key, value, mask)
    if cached is not None:
      # B = P * C rows share P prefixes: the queries of all C candidates of a
      # prefix attend to its keys in one matmul, without copying the keys.
      rows = query.reshape(cached[0].shape[0], -1, c.heads, c.head_width)
      shared = layers.attention(rows, *cached, cache_mask[:, None])
      out = layers.merge_attention(
          shared[0].reshape(out.shape), shared[1].reshape(lse.shape), out, lse)
    out = out.astype(c.dtype).reshape(batch, length, -1)
    return c.dense(c.width, name='o')(out), (key, value)


class Mlp(nn.Module):
  config: DecoderConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    gate = nn.silu(c.dense(c.mlp_width, name='gate')(x))
    return c.dense(c.width, name='down')(
        gate * c.dense(c.mlp_width, name='up')(x))


class Block(nn.Module):
  config: DecoderConfig

  def setup(self):
    c = self.config
    self.attention_norm = layers.RMSNorm(c.norm_eps, c.param_dtype)
    self.attention = Attention(c)
    self.mlp_norm = layers.RMSNorm(c.norm_eps, c.param_dtype)
    self.mlp = Mlp(c)

  def __call__(self, x, positions, mask, cached=None, cache_mask=None):
    return self.caching(x, positions, mask, cached, cache_mask)[0], None

  def caching(self, x, positions, mask, cached=None, cache_mask=None):
    x = sharding.split_rows(x)
    y, key_value = self.attention(
        self.attention_norm(x), positions, mask, cached, cache_mask)
    x = sharding.split_rows(x + y)
    x = x + self.mlp(self.mlp_norm(x))
    return sharding.split_rows(x), key_value


class Decoder(nn.Module):
  """Token or visual embeddings in, final-norm hidden states out."""
  config: DecoderConfig

  def setup(self):
    c = self.config
    self.embed = nn.Embed(
        c.vocab_size, c.width, dtype=c.dtype, param_dtype=c.param_dtype,
        embedding_init=nn.initializers.normal(0.02))
    self.final_norm = layers.RMSNorm(c.norm_eps, c.param_dtype)
    if not c.tie_embeddings:
      self.lm_head = layers.Head(
          c.vocab_size, dtype=c.dtype, param_dtype=c.param_dtype,
          lora_scale=c.lora_scale, lora_dropout=c.lora_dropout)
    scanned = layers.scan_layers(
        Block, c.layers, remat=c.remat, methods=('__call__', 'caching'),
        in_axes=(nn.broadcast, nn.broadcast, 0, nn.broadcast))
    self.layers = scanned(c)

  def embed_tokens(self, tokens):
    """int [...] -> [..., D]; negative tokens (placeholders) embed token 0."""
    # Lookups are by flat index; whole tiles of a TPU come back unmoved.
    length = tokens.shape[-1] if tokens.ndim else 0
    if tokens.ndim < 2 or length % 8 == 0:
      return self.embed(jnp.maximum(tokens, 0))
    padding = [(0, 0)] * (tokens.ndim - 1) + [(0, -length % 8)]
    return self.embed(jnp.maximum(jnp.pad(tokens, padding), 0))[..., :length, :]

  def __call__(self, x, positions, mask):
    """x [B, T, D], positions int [B, T], mask bool [B or 1, T, T] -> x."""
    x, _ = self.layers(
        x.astype(self.config.dtype), positions, mask, None, None)
    return self.final_norm(x)

  def prefix(self, x, positions, mask, keys):
    """Hidden states [P, S, D] and the Cache whose visible keys are `keys`.

    x [P, S, D], positions int [P, S], mask bool [P or 1, S, S], and keys bool
    [P, S]: which of the prefix' keys a suffix may attend to.
    """
    x, (key, value) = self.layers.caching(
        x.astype(self.config.dtype), positions, mask, None, None)
    return self.final_norm(x), Cache(key, value, keys)

  def suffix(self, cache, x, start, mask):
    """Continues each of P prefixes with C candidates.

    cache: of P prefixes. x: [P, C, T, D]. start int [P]: the position of the
    first suffix token. mask: bool [T, T], which suffix tokens see each other.

    Returns: [P, C, T, D].
    """
    prefixes, candidates, length, width = x.shape
    positions = start[:, None, None] + jnp.arange(length)
    positions = jnp.broadcast_to(positions, x.shape[:3])
    def flat(y):
      return y.reshape(prefixes * candidates, *y.shape[2:])
    y, _ = self.layers(
        flat(x).astype(self.config.dtype), flat(positions), mask[None],
        (cache.key, cache.value), cache.mask)
    return self.final_norm(y).reshape(prefixes, candidates, length, width)

  def vocabulary_terms(self, hidden):
    """[(left [..., D'], right [D', V])]: their products sum to the logits."""
    if self.config.tie_embeddings:
      return [(hidden, self.embed.embedding.T.astype(hidden.dtype))]
    return self.lm_head(hidden)


def causal(length):
  """bool [1, T, T]."""
  return jnp.tril(jnp.ones((length, length), bool))[None]


def length_mask(lengths, length):
  """bool [B, T], True before each row's end."""
  return jnp.arange(length) < lengths[:, None]


def flops_per_token(config):
  """Forward FLOPs of one token through the layers, attention scores aside."""
  c = config
  attention = c.width * c.head_width * (2 * c.heads + 2 * c.kv_heads)
  return 2 * c.layers * (attention + 3 * c.width * c.mlp_width)


def head_flops(config):
  """Forward FLOPs of the logits of one row."""
  return 2 * config.width * config.vocab_size


def attention_flops(config, tokens):
  """Forward FLOPs of causal attention within one sequence of `tokens`."""
  pairs = tokens * (tokens + 1) / 2
  return 4 * config.layers * config.heads * config.head_width * pairs
