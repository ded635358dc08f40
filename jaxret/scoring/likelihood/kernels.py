"""The compiled parts of likelihood scoring: prefixes, and tiles of suffixes.

P rows (prefixes) meet C candidates (suffixes). Everything is a pure function
of arrays; `LikelihoodModel` is what a decoder offers to them.
"""
import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxret import losses, process_settings
from jaxret.scoring.likelihood import tries


class Cost(NamedTuple):
  """FLOPs of a model's parts.

  token: through all layers, attention scores aside; key: of one token
  attending to one key, in all layers; logits: of one row over the vocabulary;
  clip_query: of one row of the visual head; clip_logit: of one clip against
  one clip of the video vocabulary.
  """
  token: float
  key: float
  logits: float
  clip_query: float
  clip_logit: float


class LikelihoodModel(NamedTuple):
  """Pure functions of parameters; S prefix tokens, M suffix tokens.

  visual_prefix: (params, tokens [P, S], features [P, clips, tokens, Dv],
    lengths [P]) -> (last hidden [P, D], cache); None of what reads prompts by
    `start`, which then gives no `sequence` either.
  text_prefix: (params, tokens [P, S], positions [P, S], lengths [P]) -> same.
  suffix: (params, cache, embeddings [P, M, D], positions [P, M], chains) ->
    hidden [P, M, D]; chains: (index [C, L], place [M], mask [L, L]), see
    tries.Trie: token `index[c, l]` sees the prefix and, where mask[l, k], the
    token index[c, k].
  embed: (params, tokens [...]) -> [..., D].
  clip_tokens: (params, features [V, clips, tokens, Dv]) -> [V, clips, D].
  vocabulary_terms: (params, hidden) -> see losses.token_log_likelihood.
  clip_queries: (params, hidden [..., D]) -> [..., Dv].
  sequence: (params, tokens [B, T], visual, features [B, clips, tokens, Dv],
    lengths [B], keys bool [B, T]) -> hidden [B, T, D] of a whole sequence, its
    placeholders filled with the video's tokens (visual = 'tokens') or clips
    ('clips'); only the `reference` mode calls it.
  cost: a Cost.
  """
  visual_prefix: Callable | None
  text_prefix: Callable
  suffix: Callable
  embed: Callable
  clip_tokens: Callable
  vocabulary_terms: Callable
  clip_queries: Callable
  sequence: Callable | None
  cost: Cost


class Continuation(NamedTuple):
  """What a decoder offers to `sequences`: pure functions of parameters.

  start: (params, batch) -> (last hidden [P, D], cache, position int [P] of the
    next token) of the prompts in a batch, whatever its arrays are.
  suffix, embed, vocabulary_terms: as of a LikelihoodModel.
  """
  start: Callable
  suffix: Callable
  embed: Callable
  vocabulary_terms: Callable


@functools.cache
def rounded(kernel):
  """One of the functions below, with every rounding that is written there.

  XLA leaves some of bfloat16 out where that is faster, others in a program for
  several devices than in one for a single device.
  """
  static = [name for name in ('model', 'nonzero_denominator')
            if name in inspect.signature(kernel).parameters]
  return jax.jit(kernel, static_argnames=static,
                 compiler_options={'xla_allow_excess_precision': False})


@functools.partial(jax.jit, static_argnums=0)
def visual_prefix(model, params, tokens, features):
  """Tokens [S] with P videos -> (log P of the next token [P, V], cache)."""
  assert model.visual_prefix is not None
  rows = jnp.broadcast_to(tokens, (features.shape[0], tokens.shape[0]))
  lengths = jnp.full(rows.shape[0], rows.shape[1])
  last, cache = model.visual_prefix(params, rows, features, lengths)
  return next_token(model, params, last), cache


@functools.partial(jax.jit, static_argnums=0)
def text_prefix(model, params, tokens, positions, lengths):
  return model.text_prefix(params, tokens, positions, lengths)


@functools.partial(jax.jit, static_argnums=0)
def next_token(model, params, last):
  """log P of every token after the prefix, float32 [P, V]: one row each."""
  logits = sum(
      jnp.matmul(left, right, preferred_element_type=jnp.float32)
      for left, right in model.vocabulary_terms(params, last))
  return jax.nn.log_softmax(logits, -1)


@jax.jit
def first_label(first, labels):
  """log P [P, V] of every token -> that of each of T labels, [P, T]."""
  return first[:, labels]


@functools.partial(jax.jit, static_argnums=(0, 1))
def text_tile(model, nonzero_denominator, params, first, cache, start, inputs,
              labels, lengths):
  """Mean log-likelihood [P, C] of C captions after each of P prefixes.

  inputs: (tokens [P or 1, M], depth [M], chains [C, L - 1], place [M]); labels
  [P or 1, C, L] and lengths [P or 1, C]: what is scored.
  """
  value = _token_values(
      model, params, first, cache, start, inputs, labels, lengths)
  return mean_log_likelihood(value, lengths, nonzero_denominator)


@functools.partial(jax.jit, static_argnums=0)
def token_tile(model, params, first, cache, start, inputs, labels, lengths):
  """As `text_tile`, each token's own: float32 [P, C, L], 0 behind each end.

  M = 0 where all suffixes are of one token, which the prefix tells.
  """
  return _token_values(
      model, params, first, cache, start, inputs, labels, lengths)


def _token_values(model, params, first, cache, start, inputs, labels, lengths):
  tokens, depth, chains, place = inputs
  rows, length = first.shape[0], labels.shape[-1]
  labels = jnp.broadcast_to(labels, (rows, *labels.shape[1:]))
  value = jnp.take_along_axis(first, labels[..., 0], 1)[..., None]
  if length == 1:
    return value
  x = model.embed(params, tokens)
  x = jnp.broadcast_to(x, (rows, *x.shape[1:]))
  hidden = model.suffix(params, cache, x, start[:, None] + depth, (
      chains, place, _causal(length - 1)))
  row = jnp.arange(rows)[:, None, None] * len(place) + chains
  rest = losses.token_log_likelihood(
      model.vocabulary_terms(params, hidden), labels[..., 1:], row)
  value = jnp.concatenate([value, rest], -1)
  return jnp.where(jnp.arange(length) < lengths[..., None], value, 0.0)


def mean_log_likelihood(value, lengths, nonzero_denominator):
  """[..., L], 0 behind each end -> mean [...], see likelihood.Options."""
  count = jnp.sum(value != 0, -1) if nonzero_denominator else lengths
  return jnp.sum(value, -1) / jnp.maximum(count, 1)


def prefix(model, params, batch):
  """Prompts -> (log P of the next token [P, V], cache, next position [P])."""
  last, cache, position = _starter()(model, params, batch)
  return next_token(model, params, last), cache, position


def start(model, params, batch):
  """Prompts read, as a Continuation's `start` has it."""
  return model.start(params, batch)


@functools.cache
def _starter():
  return jax.jit(start, static_argnums=0,
                 compiler_options=process_settings.without_fused_products())


@functools.partial(jax.jit, static_argnums=0)
def first_clip(model, params, last, vocabulary):
  """log P of clip 1 of every video, [P, V]: one matmul for all of them."""
  queries = model.clip_queries(params, last)
  logits = jnp.matmul(queries, vocabulary[:, 0].T,
                      preferred_element_type=jnp.float32)
  return jax.nn.log_softmax(logits * vocabulary.shape[-1] ** -0.5, -1)


@functools.partial(jax.jit, static_argnums=0)
def clip_tile(model, params, first, cache, start, clips, columns, vocabulary):
  """Mean log-likelihood [P, C] of the clips of videos `columns` [P or 1, C].

  clips: [P or 1, C, clips - 1, D], all but the last clip as decoder inputs;
  vocabulary: [V, clips, Dv].
  """
  rows, count = first.shape[0], vocabulary.shape[1]
  columns = jnp.broadcast_to(columns, (rows, columns.shape[1]))
  total = jnp.take_along_axis(first, columns, 1)
  if count == 1:
    return total
  candidates = clips.shape[1]
  chains, place, depth = tries.separate(candidates, count - 1)
  x = clips.reshape(clips.shape[0], -1, clips.shape[-1])
  hidden = model.suffix(
      params, cache, jnp.broadcast_to(x, (rows, *x.shape[1:])),
      start[:, None] + depth, (chains, place, _causal(count - 1)))
  queries = model.clip_queries(params, hidden)
  queries = queries.reshape(rows, candidates, count - 1, -1)
  scale = vocabulary.shape[-1] ** -0.5
  for k in range(1, count):
    total += losses.token_log_likelihood(
        [(queries[:, :, k - 1], vocabulary[:, k].T * scale)], columns)
  return total / count


@functools.partial(jax.jit, static_argnums=0)
def clip_prior_tile(model, params, cache, header, start, clips, columns,
                    vocabulary):
  """As `clip_tile` for one prior prefix seen from P suffix positions.

  The row that predicts clip 1 is the header's last token; it sees the prefix
  but neither itself nor, later, is seen (the authors mask its key).
  """
  rows = start.shape[0]
  cache = jax.tree.map(
      lambda x: jnp.broadcast_to(
          x, (*x.shape[:-4], rows, *x.shape[-3:]) if x.ndim > 2
          else (rows, x.shape[-1])), cache)
  embedded = model.embed(params, header)[:, None]
  alone = tries.separate(1, 1)[:2]
  hidden = model.suffix(params, cache, embedded, start[:, None] - 1,
                        (*alone, jnp.zeros((1, 1), bool)))
  first = first_clip(model, params, hidden[:, 0], vocabulary)
  return clip_tile(model, params, first, cache, start, clips, columns,
                   vocabulary)


@functools.partial(jax.jit, static_argnums=0)
def clip_tokens(model, params, features):
  """Features [V, clips, tokens, Dv] -> all clips but the last, [V, ., D]."""
  return model.clip_tokens(params, features)[:, :-1]


def _causal(length):
  return jnp.tril(jnp.ones((length, length), bool))
