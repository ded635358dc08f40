"""Greedy generation, plain or against a prior: one token at a time.

Prompts are read once. What is subtracted with `contrastive` is what the same
model says without seeing: candidate prior normalization (BLiM, arXiv
2507.23284) at every step. The paper generates nothing, so that the form is
ours; the cut by plausibility is that of contrastive decoding (Li et al. 2023),
and Leng et al. (2024) decode against a distorted image likewise.

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


class Weights(NamedTuple):
  """Of `contrastive`, scalars.

  alpha: share of the prior that is subtracted. plausibility: tokens less likely
  than this times the most likely one are never written.
  """
  alpha: jax.Array | float
  plausibility: jax.Array | float


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
                    *_starter()(module, params, batch), None)


def contrastive(module, max_tokens, ends, params, batch, blind, weights):
  """Continues each prompt by what it makes likely and language does not.

  The next token is that of the largest log p(y | prompt) - alpha *
  log p(y | blind prompt) among those with p(y | prompt) >= plausibility *
  max p(. | prompt). Both passes are rows of one program. With alpha = 0 it is
  `greedy`.

  Args:
    batch, blind: what `start` takes of B prompts, and of the same prompts
      without what is seen. weights: Weights.
    module, max_tokens, ends, params: as for `greedy`.

  Returns:
    Written.
  """
  start = _starter()
  return _continued(module, max_tokens, ends, params, *_beside(
      start(module, params, batch), start(module, params, blind)), weights)


@functools.cache
def _starter():
  return jax.jit(
      lambda module, params, batch: module.apply(params, batch, method='start'),
      static_argnums=0,
      compiler_options=process_settings.without_fused_products())


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continued(module, max_tokens, ends, params, hidden, cache, position,
               weights):
  def continuation(by_layer, *args):
    return continued(module, max_tokens, ends, *args[:-1], by_layer, args[-1])
  return jax.lax.platform_dependent(
      params, hidden, cache, position, weights,
      default=functools.partial(continuation, False),
      cpu=functools.partial(continuation, True))


def continued(module, max_tokens, ends, params, hidden, cache, position,
              by_layer=False, weights=None):
  """The Written behind prompts that `start` has read.

  by_layer: whether to lay out weights and cache as is best for small steps on
  CPU, which holds the weights twice; see decoder.unrolled. weights: Weights,
  where the second half of the rows are blind prompts; None = none are.
  """
  n_rows, prompt_length = cache.mask.shape
  filler = ends[0] if ends else 0
  cache = _with_room(cache, max_tokens)
  if by_layer:
    params, cache = decoder_lib.unrolled(params), decoder_lib.by_layer(cache)
  apply = functools.partial(module.apply, params)
  logits = _reader(apply, hidden, by_layer)

  def chosen(hidden):
    if weights is None:
      return jnp.argmax(logits(hidden), -1).astype(jnp.int32)
    return jnp.tile(_against_prior(logits(hidden), weights), 2)

  def unfinished(state):
    return (state.number < max_tokens) & ~jnp.all(state.written.ended)

  def write(number, hidden, cache, written):
    tokens, count, ended = written
    token = jnp.where(ended, filler, chosen(hidden))
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
  written = jax.lax.while_loop(unfinished, step, first).written
  if weights is None:
    return written
  return jax.tree.map(lambda rows: rows[:n_rows // 2], written)


def _against_prior(logits, weights):
  """The best tokens, int32 [B], of logits [2B, V], the blind rows behind.

  Of logits, not of log-probabilities: those differ by a constant per row,
  which no comparison sees.
  """
  seen, blind = jnp.split(logits, 2)
  least = jnp.max(seen, -1, keepdims=True) + jnp.log(weights.plausibility)
  scores = jnp.where(seen >= least, seen - weights.alpha * blind, -jnp.inf)
  return jnp.argmax(scores, -1).astype(jnp.int32)


def _reader(apply, hidden, by_layer):
  """The function from hidden [B, D] to logits, float32 [B, V]."""
  def terms(hidden):
    return apply(hidden, method='vocabulary_terms')
  turned = [right.T for _, right in terms(hidden)]  # before all steps

  def logits(hidden):
    if by_layer:
      return sum(layers.times_turned(left, right, jnp.float32)
                 for (left, _), right in zip(terms(hidden), turned))
    return sum(jnp.matmul(left, right, preferred_element_type=jnp.float32)
               for left, right in terms(hidden))
  return logits


@jax.jit
def _beside(seen, blind):
  """What `start` gave of B prompts and of B blind ones, as of 2B prompts.

  The shorter ones are padded as if they were prompts of the longer length.
  """
  columns = max(part[1].mask.shape[1] for part in (seen, blind))
  parts = [(hidden, _with_room(cache, columns - cache.mask.shape[1]), position)
           for hidden, cache, position in (seen, blind)]
  hidden, caches, positions = zip(*parts)
  return (jnp.concatenate(hidden), decoder_lib.Cache(
      jnp.concatenate([cache.key for cache in caches], 1),
      jnp.concatenate([cache.value for cache in caches], 1),
      jnp.concatenate([cache.mask for cache in caches])),
          jnp.concatenate(positions))


def _with_room(cache, columns):
  """The cache with empty columns behind the prompt's."""
  room = ((0, 0), (0, 0), (0, columns), (0, 0), (0, 0))
  return decoder_lib.Cache(jnp.pad(cache.key, room), jnp.pad(cache.value, room),
                           jnp.pad(cache.mask, ((0, 0), (0, columns))))
