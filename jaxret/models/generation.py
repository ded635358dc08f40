"""Greedy generation: prompts are read once, then one token at a time.

The cache has its final size from the start, so that one compilation serves
all tokens: prompts are padded on the right, and what row b writes at step n
stands in column S + n of every row, whatever the length of its prompt.
"""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxret.models import decoder as decoder_lib


class Written(NamedTuple):
  """tokens int32 [B, N], the end token among them; count int32 [B], how many
  of them were written; ended bool [B], False where N was too few."""
  tokens: jax.Array
  count: jax.Array
  ended: jax.Array


class _State(NamedTuple):
  number: jax.Array  # of tokens written, of every row
  hidden: jax.Array  # [B, D], what the next token is read from
  cache: decoder_lib.Cache
  written: Written


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
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
  apply = functools.partial(module.apply, params)
  hidden, cache, position = apply(batch, method='start')
  n_rows, prompt_length = cache.mask.shape
  filler = ends[0] if ends else 0
  written = Written(
      jnp.full((n_rows, max_tokens), filler, jnp.int32),
      jnp.zeros(n_rows, jnp.int32), jnp.zeros(n_rows, bool))

  def unfinished(state):
    return (state.number < max_tokens) & ~jnp.all(state.written.ended)

  def write(state):
    number, (tokens, count, ended) = state.number, state.written
    token = _most_likely(apply(state.hidden, method='vocabulary_terms'))
    token = jnp.where(ended, filler, token)
    tokens = jax.lax.dynamic_update_slice_in_dim(
        tokens, token[:, None], number, 1)
    count = jnp.where(ended, count, number + 1)
    ended = ended | jnp.isin(token, jnp.array(ends, jnp.int32))
    hidden, own = apply(state.cache, token, position + number, method='step')
    return _State(
        number + 1, hidden, _extended(state.cache, own, prompt_length + number),
        Written(tokens, count, ended))

  state = _State(jnp.int32(0), hidden, _with_room(cache, max_tokens), written)
  return jax.lax.while_loop(unfinished, write, state).written


def _most_likely(terms):
  logits = sum(jnp.matmul(left, right, preferred_element_type=jnp.float32)
               for left, right in terms)
  return jnp.argmax(logits, -1).astype(jnp.int32)


def _with_room(cache, columns):
  """The cache with empty columns behind the prompt's."""
  room = ((0, 0), (0, 0), (0, columns), (0, 0), (0, 0))
  return decoder_lib.Cache(jnp.pad(cache.key, room), jnp.pad(cache.value, room),
                           jnp.pad(cache.mask, ((0, 0), (0, columns))))


def _extended(cache, own, column):
  """The cache with keys and values [L, B, 1, K, H] of one more column."""
  def put(whole, part):
    return jax.lax.dynamic_update_slice_in_dim(
        whole, part.astype(whole.dtype), column, 2)
  mask = jax.lax.dynamic_update_slice_in_dim(
      cache.mask, jnp.ones((len(cache.mask), 1), bool), column, 1)
  return decoder_lib.Cache(
      put(cache.key, own[0]), put(cache.value, own[1]), mask)
