"""The decoder of Qwen2, Qwen3 and Mistral: grouped queries, a prefix cache.

Source: Qwen2 technical report (arXiv 2407.10671), Qwen3 (2505.09388), Mistral
7B (2310.06825); checked against golden data.
"""
import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret import sharding
from jaxret.models import attention as attention_lib
from jaxret.models import layers


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes and numerics of a decoder.

  width D, mlp_width F, heads N, kv_heads K, head_width H; `dtype` is that of
  the computation, `param_dtype` that of the stored weights. `rope_sections`
  counts the frequencies of each axis, for positions [3, B, T] (M-RoPE).
  Mistral and Qwen3 have no `qkv_bias`; Qwen3 has a `qk_norm` of every head,
  and its axes take turns among the frequencies (`rope_interleaved`).
  `attention`: see attention.check_attention; `remat`: layers.remat_policy.
  `rope_frequencies`, `rope_scale`: see models.rotary. `max_tokens`: past it the
  model would compute otherwise, as `limited_by` has it in its own words.
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
  remat: str | bool = 'none'
  lora_scale: float = 1.0
  lora_dropout: float = 0.0
  rope_sections: tuple[int, ...] = ()
  rope_interleaved: bool = False
  qkv_bias: bool = True
  qk_norm: bool = False
  attention: str = 'xla'
  rope_frequencies: tuple[float, ...] = ()
  rope_scale: float = 1.0
  max_tokens: int | None = None
  limited_by: str = ''

  def __post_init__(self):
    attention_lib.check_attention(self.attention, self.head_width, self.dtype)
    layers.remat_policy(self.remat)

  def kernel(self):
    return attention_lib.chosen_attention(
        self.attention, self.head_width, self.dtype)

  def check_length(self, tokens):
    """Raises ValueError for sequences, as padded, of more than `max_tokens`."""
    if self.max_tokens is not None and tokens > self.max_tokens:
      raise ValueError(
          f'decoder: got sequences of {tokens} tokens, padding included, want '
          f'{self.max_tokens} at most: past it {self.limited_by} of the model '
          'is not implemented; make the items shorter, or lower max_tokens')

  def dense(self, features, **kwargs):
    return layers.Dense(features, dtype=self.dtype,
                        param_dtype=self.param_dtype,
                        lora_scale=self.lora_scale,
                        lora_dropout=self.lora_dropout, **kwargs)


class Cache(NamedTuple):
  """Keys and values of a prefix, [L, P, S, K, H]; mask bool [P, S].

  By layer, for `unrolled` variables: tuples of L keys [P, K, S, H] and L
  values [P, K, H, S].
  """
  key: jax.Array
  value: jax.Array
  mask: jax.Array


class Slot(NamedTuple):
  """A layer of a cache by layer, and the column for one more token's own."""
  key: jax.Array
  value: jax.Array
  column: jax.Array

  def fill(self, key, value):
    """The layer's keys and values with those [P, 1, K, H] in the column."""
    put = jax.lax.dynamic_update_slice_in_dim
    return (put(self.key, jnp.moveaxis(key, 1, 3), self.column, 3),
            put(self.value, jnp.moveaxis(value, 1, 2), self.column, 2))


class Chains(NamedTuple):
  """How M packed suffix tokens of a prefix hang together, as C chains.

  index int [C, L]: the tokens of each chain in order, any where it has ended;
  chains may share their beginnings. place int [M]: one position of every
  token in the flattened [C * L]. mask bool [L, L]: which tokens of a chain see
  each other. index [P, C, L] and place [P, M] where each prefix has its own.
  """
  index: jax.Array
  place: jax.Array
  mask: jax.Array


class Attention(nn.Module):
  config: DecoderConfig

  @nn.compact
  def __call__(self, x, positions, mask, cached, cache_mask, chains):
    c = self.config
    batch, length, _ = x.shape
    def heads(name, n):
      y = c.dense(n * c.head_width, use_bias=c.qkv_bias, name=name)(x)
      return y.reshape(batch, length, n, c.head_width)
    def turned(name, n):
      y = heads(name, n)
      if c.qk_norm:
        y = layers.RMSNorm(c.norm_eps, c.param_dtype, name=f'{name}_norm')(y)
      return layers.rotary(
          y, positions, c.rope_theta, c.rope_sections, c.rope_frequencies,
          c.rope_scale, c.rope_interleaved)
    query, key = turned('q', c.heads), turned('k', c.kv_heads)
    value = heads('v', c.kv_heads)
    if cached is None:
      out, _ = attention_lib.attention(
          query, key, value, mask, implementation=c.attention)
    elif isinstance(cached, Slot):
      key, value = cached.fill(key, value)
      out = attention_lib.attention_of_one(query[:, 0], key, value, cache_mask)
    elif mask is not None:
      out, _ = attention_lib.attention(
          query, *(jnp.concatenate(both, 1)
                   for both in zip(cached, (key, value))),
          mask, implementation='cudnn')
    else:
      # All M suffix tokens attend to the prefix' keys in one matmul, and to
      # the tokens before them in their own chain.
      shared = attention_lib.attention_to_prefix(
          query, *cached, cache_mask, c.attention)
      own = chain_attention(query, key, value, chains)
      out = attention_lib.merge_attention(*shared, *own)
    out = out.astype(c.dtype).reshape(batch, length, -1)
    return c.dense(c.width, name='o')(out), (key, value)


def chain_attention(query, key, value, chains):
  """Attention of packed tokens [P, M, N or K, H] along their chains."""
  own = chains.place.ndim == 2
  def take(x, index):
    if own:
      return jax.vmap(lambda row, its: jnp.take(row, its, 0))(x, index)
    return jnp.take(x, index, 1)
  def unpack(x):
    picked = take(x, chains.index)
    return picked.reshape(-1, chains.index.shape[-1], *x.shape[2:])
  def pack(x):
    return take(x.reshape(len(query), -1, *x.shape[2:]), chains.place)
  out, lse = attention_lib.attention(
      unpack(query), unpack(key), unpack(value), chains.mask[None])
  return pack(out), pack(lse)


def suffix_mask(keys, chains):
  """bool [P, M, S + M]: what packed tokens see of prefix and suffix at once.

  keys: bool [P, S], which of a prefix' keys may be seen.
  """
  count = chains.place.shape[-1]
  def seen(index, place):
    chain, step = jnp.divmod(place, index.shape[1])
    return jnp.zeros((count, count), bool).at[
        jnp.arange(count)[:, None], jnp.take(index, chain, 0)].max(
            jnp.take(chains.mask, step, 0))
  own = (jax.vmap(seen) if chains.place.ndim == 2 else seen)(
      chains.index, chains.place)
  def everywhere(mask):
    return jnp.broadcast_to(mask, (len(keys), count, mask.shape[-1]))
  return jnp.concatenate([everywhere(keys[:, None]), everywhere(own)], -1)


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

  def __call__(self, x, positions, mask, cached, cache_mask, chains,
               layer=None, visual=None):
    return self.caching(x, positions, mask, cached, cache_mask, chains, layer,
                        visual)[0], None

  def caching(self, x, positions, mask, cached, cache_mask, chains, layer=None,
              visual=None):
    x = sharding.split_rows(x)
    y, key_value = self.attention(self.attention_norm(x), positions, mask,
                                  cached, cache_mask, chains)
    x = sharding.split_rows(x + y)
    x = x + self.mlp(self.mlp_norm(x))
    if visual is not None:
      x = visual.add_to(x, layer)
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
        in_axes=(nn.broadcast, nn.broadcast, 0, nn.broadcast, nn.broadcast, 0,
                 nn.broadcast))
    self.layers = scanned(c)

  def embed_tokens(self, tokens):
    """int [...] -> [..., D]; negative tokens (placeholders) embed token 0."""
    # Lookups are by flat index; whole tiles of a TPU come back unmoved.
    length = tokens.shape[-1] if tokens.ndim else 0
    if tokens.ndim < 2 or length % 8 == 0:
      return self.embed(jnp.maximum(tokens, 0))
    padding = [(0, 0)] * (tokens.ndim - 1) + [(0, -length % 8)]
    return self.embed(jnp.maximum(jnp.pad(tokens, padding), 0))[..., :length, :]

  def __call__(self, x, positions, mask, length=None, visual=None):
    """x [B, T, D], positions int [B, T] or [3, B, T], mask -> like x.

    mask: masks.Segments, or bool [B or 1, T or 1, T], True where a token may
    see another. length: of the longest sequence, T where a row is one. visual:
    a deepstack.Visual.
    """
    self.config.check_length(length or x.shape[1])
    x, _ = self.layers(
        x.astype(self.config.dtype), positions, self._seen(mask, x), None, None,
        None, *self._deep(visual))
    return self.final_norm(x)

  def _seen(self, mask, x):
    return attention_lib.seen_at_once(mask, x.shape[1], self.config.kernel())

  def _deep(self, visual):
    """What layers are told of a deepstack.Visual: their numbers, and it."""
    if visual is None or not len(visual.features):
      return None, None
    return jnp.arange(self.config.layers), visual

  def prefix(self, x, positions, mask, keys, visual=None):
    """Hidden states [P, S, D] and the Cache whose visible keys are `keys`.

    x [P, S, D], positions int [P, S], mask and visual as for the call, and keys
    bool [P, S]: which of the prefix' keys a suffix may attend to.
    """
    self.config.check_length(x.shape[1])
    x, (key, value) = self.layers.caching(
        x.astype(self.config.dtype), positions, self._seen(mask, x), None, None,
        None, *self._deep(visual))
    return self.final_norm(x), Cache(key, value, keys)

  def suffix(self, cache, x, positions, chains, visual=None):
    """Continues each of P prefixes with M tokens, packed as `chains` says.

    cache: of P prefixes. x: [P, M, D], and so is what comes back. positions:
    int [P, M]. visual: a deepstack.Visual.
    """
    self.config.check_length(cache.mask.shape[1] + chains.index.shape[-1])
    mask = None
    if self.config.kernel() == 'cudnn':  # gives no log-sum-exp to merge by
      mask = suffix_mask(cache.mask, chains)
    x, _ = self.layers(
        x.astype(self.config.dtype), positions, mask,
        (cache.key, cache.value), cache.mask, chains, *self._deep(visual))
    return self.final_norm(x)

  def step(self, cache, x, positions, column):
    """Continues each of P rows by one token, x [P, 1, D].

    Returns its hidden state [P, 1, D], and the cache with its keys and values
    in the empty column. By layer where the variables are `unrolled`.
    """
    self.config.check_length(cache.mask.shape[1])
    x = x.astype(self.config.dtype)
    put = jax.lax.dynamic_update_slice_in_dim
    mask = put(cache.mask, jnp.ones((len(x), 1), bool), column, 1)
    if self.has_variable('unrolled', 'layers'):
      block, filled = Block(self.config, parent=None), []
      for variables, *layer in zip(
          self.get_variable('unrolled', 'layers'), cache.key, cache.value):
        x, key_value = block.apply(
            variables, x, positions, None, Slot(*layer, column), mask, None,
            method='caching')
        filled.append(key_value)
      return self.final_norm(x), Cache(*zip(*filled), mask)
    # For one query `attention` is 'xla' always: joined keys would be a copy of
    # the cache.
    alone = Chains(jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, jnp.int32),
                   jnp.ones((1, 1), bool))
    x, (key, value) = self.layers.caching(
        x, positions, None, (cache.key, cache.value), cache.mask, alone, None,
        None)
    return self.final_norm(x), Cache(
        put(cache.key, key, column, 2), put(cache.value, value, column, 2),
        mask)

  def vocabulary_terms(self, hidden):
    """[(left [..., D'], right [D', V])]: their products sum to the logits."""
    if self.config.tie_embeddings:
      return [(hidden, self.embed.embedding.T.astype(hidden.dtype))]
    return self.lm_head(hidden)


def unrolled(variables):
  """Variables of a model whose `decoder` is to take many steps on CPU.

  Holds the layers' kernels once more: on their own, since a product would
  first copy its part of a stack, and turned, see layers.times_turned. Their
  cache is `by_layer`.
  """
  stacked = {name: tree['decoder']['layers'] for name, tree in variables.items()
             if 'layers' in tree.get('decoder', {})}
  def turned(tree):
    return {name: turned(leaf) if isinstance(leaf, dict) else leaf.T
            for name, leaf in tree.items()
            if isinstance(leaf, dict) or name == 'kernel'}
  def layer(number):
    own = jax.tree.map(lambda leaf: leaf[number], stacked)
    return {**own, 'turned': turned(own['params'])}
  count = len(jax.tree.leaves(stacked)[0])
  return {**variables, 'unrolled': {
      'decoder': {'layers': tuple(map(layer, range(count)))}}}


def by_layer(cache):
  """The cache in the form that `unrolled` variables need."""
  return Cache(tuple(jnp.moveaxis(cache.key, 2, 4)),
               tuple(jnp.moveaxis(cache.value, 2, 3)), cache.mask)


def causal(length):
  """bool [1, T, T]."""
  return jnp.tril(jnp.ones((length, length), bool))[None]


def length_mask(lengths, length):
  """bool [B, T], True before each row's end."""
  return jnp.arange(length) < lengths[:, None]


def flops_per_token(config):
  """Forward FLOPs of one token through the layers, attention scores aside.

  A float: times an int32 of a batch a whole number of 7B would be too large.
  """
  c = config
  attention = c.width * c.head_width * (2 * c.heads + 2 * c.kv_heads)
  return 2.0 * c.layers * (attention + 3 * c.width * c.mlp_width)


def head_flops(config):
  """Forward FLOPs of the logits of one row."""
  return 2.0 * config.width * config.vocab_size


def attention_flops(config, tokens):
  """Forward FLOPs of causal attention within one sequence of `tokens`."""
  pairs = tokens * (tokens + 1) / 2
  return 4 * config.layers * config.heads * config.head_width * pairs
