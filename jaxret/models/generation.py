"""Greedy generation: prompts are read once, then one token at a time.

The cache has its final size from the start, so that one compilation serves
all tokens: prompts are padded on the right, and what row b writes at step n
stands in column S + n of every row, whatever the length of its prompt.
"""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxret import process_settings
from jaxret.models import decoder as decoder_lib
from jaxret.models import layers


class Written(NamedTuple):
  """tokens int32 [B, N], the end token among them; count int32 [B], how many
  of them were written; ended bool [B], False where N was too few."""
  tokens: jax.Array
  count: jax.Array
  ended: jax.Array


class _State(NamedTuple):
  number: jax.Array  # of tokens written, of every row
  token: jax.Array  # [B], the last of them
  cache: decoder_lib.Cache
  written: Written


def greedy(module, max_tokens, ends, params, batch):
  """Continues each prompt by its most likely token until it ends.

  Args:
    module: a Linen module with `start`, `step` and `vocabulary_terms`, as
      Qwen2Vl and Vlm have them.
    max_tokens: N, the most tokens of an answer.
    ends: tuple of token ids, each of which ends one.
    params: of the module.
    batch: what `start` takes.

  Returns:
    Written. Behind the end of a row its tokens are the first of `ends`.
  """
  return _continued(module, max_tokens, ends, params,
                    *_starter()(module, params, batch))


@functools.cache
def _starter():
  return jax.jit(
      lambda module, params, batch: module.apply(params, batch, method='start'),
      static_argnums=0,
      compiler_options=process_settings.without_fused_products())


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continued(module, max_tokens, ends, params, hidden, cache, position):
  continuation = functools.partial(continued, module, max_tokens, ends)
  return jax.lax.platform_dependent(
      params, hidden, cache, position, default=continuation,
      cpu=functools.partial(continuation, by_layer=True))


def continued(module, max_tokens, ends, params, hidden, cache, position,
              by_layer=False):
  """The Written behind prompts that `start` has read.

  by_layer: whether to lay out weights and cache as is best for small steps on
  CPU, which holds the weights twice; see decoder.unrolled.
  """
  n_rows, prompt_length = cache.mask.shape
  filler = ends[0] if ends else 0
  cache = _with_room(cache, max_tokens)
  if by_layer:
    params, cache = decoder_lib.unrolled(params), decoder_lib.by_layer(cache)
  apply = functools.partial(module.apply, params)
  most_likely = _reader(apply, hidden, by_layer)

  def unfinished(state):
    return (state.number < max_tokens) & ~jnp.all(state.written.ended)

  def write(number, hidden, cache, written):
    tokens, count, ended = written
    token = jnp.where(ended, filler, most_likely(hidden))
    tokens = jax.lax.dynamic_update_slice_in_dim(
        tokens, token[:, None], number, 1)
    count = jnp.where(ended, count, number + 1)
    ended = ended | jnp.isin(token, jnp.array(ends, jnp.int32))
    return _State(number + 1, token, cache, Written(tokens, count, ended))

  def step(state):
    place = state.number - 1
    hidden, cache = apply(state.cache, state.token, position + place,
                          prompt_length + place, method='step')
    return write(state.number, hidden, cache, state.written)

  first = write(jnp.int32(0), hidden, cache, Written(
      jnp.full((n_rows, max_tokens), filler, jnp.int32),
      jnp.zeros(n_rows, jnp.int32), jnp.zeros(n_rows, bool)))
  return jax.lax.while_loop(unfinished, step, first).written


def _reader(apply, hidden, by_layer):
  """The function from hidden [B, D] to the most likely tokens, int32 [B]."""
  def terms(hidden):
    return apply(hidden, method='vocabulary_terms')
  turned = [right.T for _, right in terms(hidden)]  # before all steps

  def most_likely(hidden):
    if by_layer:
      logits = sum(layers.times_turned(left, right, jnp.float32)
                   for (left, _), right in zip(terms(hidden), turned))
    else:
      logits = sum(jnp.matmul(left, right, preferred_element_type=jnp.float32)
                   for left, right in terms(hidden))
    return jnp.argmax(logits, -1).astype(jnp.int32)
  return most_likely


def _with_room(cache, columns):
  """The cache with empty columns behind the prompt's."""
  room = ((0, 0), (0, 0), (0, columns), (0, 0), (0, 0))
  return decoder_lib.Cache(jnp.pad(cache.key, room), jnp.pad(cache.value, room),
                           jnp.pad(cache.mask, ((0, 0), (0, columns))))
