"""Exhaustive likelihood scoring in both directions, nothing computed twice.

The prefix of a row (a video with its instruction, a text with its prompt) is
encoded once; every candidate is then a suffix of a few tokens that attends to
the stored keys and values. It yields BLiM's two matrices and two priors
(arXiv 2507.23284, section 3) with the numbers of one full pass per pair.
This module knows no model: `LikelihoodModel` is what a decoder offers.
"""
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxret import losses, sharding
from jaxret.scoring import tiles

FILL = -100.0  # the value of a pair that a cascade does not score


class LikelihoodModel(NamedTuple):
  """Pure functions of parameters; P prefixes, C candidates, S and T tokens.

  visual_prefix: (params, tokens [P, S], features [P, clips, tokens, Dv],
    lengths [P]) -> (last hidden [P, D], cache).
  text_prefix: (params, tokens [P, S], positions [P, S], lengths [P]) -> same.
  suffix: (params, cache, embeddings [P, C, T, D], start [P], mask [T, T]) ->
    hidden [P, C, T, D].
  embed: (params, tokens [...]) -> [..., D].
  clip_tokens: (params, features [V, clips, tokens, Dv]) -> [V, clips, D].
  vocabulary_terms: (params, hidden) -> see losses.token_log_likelihood.
  clip_queries: (params, hidden [..., D]) -> [..., Dv].
  """
  visual_prefix: Callable
  text_prefix: Callable
  suffix: Callable
  embed: Callable
  clip_tokens: Callable
  vocabulary_terms: Callable
  clip_queries: Callable


class Prompts(NamedTuple):
  """The token sequences of one set of texts.

  visual_prefix: int [S], up to the caption, `visual` at each video token.
  labels: T arrays int [L], the scored tokens of each caption.
  text_prefixes: T arrays int [S], up to the first clip.
  prior_length: how many tokens of a text prefix the video prior may see.
  visual: the placeholder id.
  """
  visual_prefix: np.ndarray
  labels: tuple[np.ndarray, ...]
  text_prefixes: tuple[np.ndarray, ...]
  prior_length: int
  visual: int


class Options(NamedTuple):
  """rows x columns of a tile; padding of a bucket; the reference's denominator.

  nonzero_denominator: divide a caption's log-likelihood by the labels whose
  loss is not exactly 0, as the authors' code does, not by all its labels.
  """
  rows: int = 32
  columns: int = 64
  max_padding: float = 0.1
  nonzero_denominator: bool = True


@functools.partial(jax.jit, static_argnums=0)
def _visual_prefix(model, params, tokens, features):
  rows = jnp.broadcast_to(tokens, (features.shape[0], tokens.shape[0]))
  lengths = jnp.full(rows.shape[0], rows.shape[1])
  last, cache = model.visual_prefix(params, rows, features, lengths)
  return _first_log_likelihood(model, params, last), cache


@functools.partial(jax.jit, static_argnums=0)
def _text_prefix(model, params, tokens, positions, lengths):
  return model.text_prefix(params, tokens, positions, lengths)


def _first_log_likelihood(model, params, last):
  """log P of every token after the prefix, float32 [P, V]: one row each."""
  logits = sum(
      jnp.matmul(left, right, preferred_element_type=jnp.float32)
      for left, right in model.vocabulary_terms(params, last))
  return jax.nn.log_softmax(logits, -1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _text_tile(model, nonzero_denominator, params, first, cache, start, labels,
               lengths):
  """Mean log-likelihood [P, C] of labels [P or 1, C, L] after P prefixes."""
  rows = first.shape[0]
  labels = jnp.broadcast_to(labels, (rows, *labels.shape[1:]))
  length = labels.shape[-1]
  hidden = model.suffix(
      params, cache, model.embed(params, labels[..., :-1]), start,
      jnp.tril(jnp.ones((length - 1, length - 1), bool)))
  rest = losses.token_log_likelihood(
      model.vocabulary_terms(params, hidden), labels[..., 1:])
  head = jnp.take_along_axis(first, labels[..., 0], 1)[..., None]
  value = jnp.concatenate([head, rest], -1)
  value = jnp.where(jnp.arange(length) < lengths[..., None], value, 0.0)
  count = (jnp.sum(value != 0, -1) if nonzero_denominator
           else jnp.broadcast_to(lengths, value.shape[:2]))
  return jnp.sum(value, -1) / jnp.maximum(count, 1)


@functools.partial(jax.jit, static_argnums=0)
def _first_clip(model, params, last, vocabulary):
  """log P of clip 1 of every video, [P, V]: one matmul for all of them."""
  return _clip_log_softmax(
      model.clip_queries(params, last), vocabulary[:, 0])


def _clip_log_softmax(queries, vocabulary):
  logits = jnp.matmul(queries, vocabulary.T,
                      preferred_element_type=jnp.float32)
  return jax.nn.log_softmax(logits * vocabulary.shape[-1] ** -0.5, -1)


@functools.partial(jax.jit, static_argnums=0)
def _clip_tile(model, params, first, cache, start, clips, columns, vocabulary):
  """Mean log-likelihood [P, C] of the clips of videos `columns` [P or 1, C].

  clips: [P or 1, C, clips - 1, D], all but the last clip as decoder inputs;
  vocabulary: [V, clips, Dv].
  """
  rows, count = first.shape[0], vocabulary.shape[1]
  columns = jnp.broadcast_to(columns, (rows, columns.shape[1]))
  total = jnp.take_along_axis(first, columns, 1)
  if count > 1:
    clips = jnp.broadcast_to(clips, (rows, *clips.shape[1:]))
    hidden = model.suffix(params, cache, clips, start,
                          jnp.tril(jnp.ones((count - 1, count - 1), bool)))
    queries = model.clip_queries(params, hidden)
    scale = vocabulary.shape[-1] ** -0.5
    for k in range(1, count):
      total += losses.token_log_likelihood(
          [(queries[:, :, k - 1], vocabulary[:, k].T * scale)], columns)
  return total / count


@functools.partial(jax.jit, static_argnums=0)
def _clip_prior_tile(model, params, cache, header, start, clips, columns,
                     vocabulary):
  """As `_clip_tile` for one prior prefix seen from P suffix positions.

  The row that predicts clip 1 is the header's last token; it sees the prefix
  but neither itself nor, later, is seen (spec §4: a masked key).
  """
  rows = start.shape[0]
  cache = jax.tree.map(
      lambda x: jnp.broadcast_to(
          x, (*x.shape[:-4], rows, *x.shape[-3:]) if x.ndim > 2
          else (rows, x.shape[-1])), cache)
  embedded = model.embed(params, header)[:, None, None]
  hidden = model.suffix(params, cache, embedded, start - 1,
                        jnp.zeros((1, 1), bool))
  first = _first_clip(model, params, hidden[:, 0, 0], vocabulary)
  return _clip_tile(model, params, first, cache, start, clips, columns,
                    vocabulary)


@functools.partial(jax.jit, static_argnums=0)
def _clip_tokens(model, params, features):
  return model.clip_tokens(params, features)


def stack(arrays, length, value=0):
  """Right-pads int arrays to [N, length]."""
  out = np.full((len(arrays), length), value, np.int32)
  for row, array in zip(out, arrays):
    row[:len(array)] = array
  return out


def _on_mesh(function):
  """Sets the mesh that its third argument is, see sharding.split_rows."""
  @functools.wraps(function)
  def wrapped(model, params, mesh, *args, **kwargs):
    with jax.set_mesh(mesh):
      return function(model, params, mesh, *args, **kwargs)
  return wrapped


@_on_mesh
def score_texts(model, params, mesh, prompts, features, options, matrix,
                keep=None):
  """Fills matrix [V, T] with log P(text | video), tile by tile.

  Args:
    model, params, mesh: `params` live on `mesh`.
    prompts: of the T texts.
    features: Visuals of the V videos, [clips, tokens, Dv] each.
    options: tile sizes.
    matrix: float32 [V, T], NaN where it is still to be computed; a memory
      map keeps every finished tile.
    keep: bool [V, T], the pairs to score; None = all.
  """
  lengths = np.array([len(label) for label in prompts.labels])
  rows_of = tiles.blocks(np.ones(len(features), int), options.rows,
                         multiple=sharding.batch_shards(mesh))
  columns_of = tiles.blocks(lengths, options.columns, options.max_padding)
  prefix_tokens = np.asarray(prompts.visual_prefix, np.int32)
  bar = _progress('text given video', matrix, keep)
  row_size = _even(len(rows_of[0].index), mesh)
  for rows in rows_of:
    prefix = None
    padded = tiles.fill(rows.index, row_size)
    for columns in columns_of:
      tile = _tile(matrix, keep, rows.index, padded, columns.index)
      if tile is None:
        continue
      if prefix is None:
        block = np.stack([features[int(v)] for v in padded])
        prefix = _visual_prefix(model, params, prefix_tokens,
                                sharding.constant(mesh, block))
        start = sharding.constant(
            mesh, np.full(row_size, len(prefix_tokens), np.int32))
      labels = stack([prompts.labels[c] for c in tile.reshape(-1)],
                     columns.length).reshape(*tile.shape, -1)
      values = _text_tile(
          model, options.nonzero_denominator, params, *prefix, start,
          *_put(mesh, labels, lengths[tile].astype(np.int32)))
      _finish(matrix, keep, rows.index, tile, sharding.to_host(values), bar)
  bar.close()


@_on_mesh
def score_videos(model, params, mesh, prompts, features, vocabulary, options,
                 matrix, keep=None):
  """Fills matrix [T, V] with log P(video | text); see `score_texts`.

  vocabulary: float32 [V, clips, Dv], the token means of all V videos.
  """
  lengths = np.array([len(p) for p in prompts.text_prefixes])
  rows_of = tiles.blocks(lengths, options.rows, options.max_padding,
                         multiple=sharding.batch_shards(mesh))
  columns_of = tiles.blocks(np.ones(len(features), int), options.columns)
  clips = clip_inputs(model, params, mesh, features, options)
  vocabulary = sharding.replicate(mesh, vocabulary)
  sizes = {}
  for rows in rows_of:
    sizes[rows.length] = max(sizes.get(rows.length, 0), len(rows.index))
  bar = _progress('video given text', matrix, keep)
  for rows in rows_of:
    prefix = None
    padded = tiles.fill(rows.index, _even(sizes[rows.length], mesh))
    for columns in columns_of:
      tile = _tile(matrix, keep, rows.index, padded, columns.index)
      if tile is None:
        continue
      if prefix is None:
        tokens = stack([prompts.text_prefixes[t] for t in padded], rows.length)
        start = sharding.constant(mesh, lengths[padded].astype(np.int32))
        positions = np.broadcast_to(np.arange(rows.length), tokens.shape)
        last, cache = _text_prefix(
            model, params, sharding.constant(mesh, tokens),
            sharding.constant(mesh, positions.astype(np.int32)), start)
        prefix = (_first_clip(model, params, last, vocabulary), cache)
      values = _clip_tile(
          model, params, *prefix, start,
          *_put(mesh, clips[tile], tile.astype(np.int32)), vocabulary)
      _finish(matrix, keep, rows.index, tile, sharding.to_host(values), bar)
  bar.close()


def clip_inputs(model, params, mesh, features, options):
  """Every video's clips but the last as decoder inputs, [V, clips - 1, D]."""
  rows_of = tiles.blocks(np.ones(len(features), int), options.rows,
                         multiple=sharding.batch_shards(mesh))
  size = _even(len(rows_of[0].index), mesh)
  parts = []
  for rows in rows_of:
    block = np.stack([features[int(v)] for v in tiles.fill(rows.index, size)])
    clips = _clip_tokens(model, params, sharding.constant(mesh, block))
    parts.append(sharding.to_host(clips)[:len(rows.index), :-1])
  return np.concatenate(parts)


@_on_mesh
def text_priors(model, params, mesh, prompts, options):
  """log P(text), float32 [T]: the text alone, its positions as with a video.

  The video's keys are masked and its positions stay (spec §4), so that the
  prior does not depend on the video: one prefix serves all texts.
  """
  everywhere = np.asarray(prompts.visual_prefix, np.int32)
  positions = np.flatnonzero(everywhere != prompts.visual).astype(np.int32)
  multiple = sharding.batch_shards(mesh)
  # The same prefix on each device, the texts dealt out among them.
  def rows(x):
    return sharding.constant(mesh, np.repeat(x[None], multiple, 0))

  last, cache = _text_prefix(
      model, params, rows(everywhere[positions]), rows(positions),
      rows(np.int32(len(positions))))
  first = jax.jit(_first_log_likelihood, static_argnums=0)(
      model, params, last)
  lengths = np.array([len(label) for label in prompts.labels])
  prior = np.empty(len(lengths), np.float32)
  start = rows(np.int32(len(everywhere)))
  for block in tiles.blocks(lengths, multiple * options.columns,
                            options.max_padding, multiple):
    columns = -(-len(block.index) // multiple)
    index = tiles.fill(block.index, columns * multiple)
    index = index.reshape(multiple, columns)
    labels = stack([prompts.labels[t] for t in index.reshape(-1)],
                   block.length).reshape(multiple, columns, -1)
    values = _text_tile(
        model, options.nonzero_denominator, params, first, cache, start,
        *_put(mesh, labels, lengths[index].astype(np.int32)))
    prior[index] = sharding.to_host(values)
  return prior


@_on_mesh
def video_priors(model, params, mesh, prompts, features, vocabulary, options):
  """log P(video), float32 [distinct lengths, V], and the lengths' index [T].

  The prefix stops before the caption, but the clips keep their positions: the
  prior depends on the text through its token count alone (spec §5.2).
  """
  lengths = np.array([len(p) for p in prompts.text_prefixes])
  values, length_index = np.unique(lengths, return_inverse=True)
  tokens = np.asarray(
      prompts.text_prefixes[0][:prompts.prior_length], np.int32)[None]
  put = functools.partial(sharding.replicate, mesh)
  positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
  _, cache = _text_prefix(model, params, put(tokens), put(positions),
                          put(np.array([tokens.shape[1]], np.int32)))
  clips = clip_inputs(model, params, mesh, features, options)
  header = prompts.text_prefixes[0][-1]
  prior = np.empty((len(values), len(features)), np.float32)
  vocabulary = put(vocabulary)
  multiple = sharding.batch_shards(mesh)
  size = min(-(-len(values) // multiple) * multiple,
             -(-options.rows // multiple) * multiple)
  for first in range(0, len(values), size):
    rows = np.arange(first, min(first + size, len(values)))
    start = values[tiles.fill(rows, size)].astype(np.int32)
    for columns in tiles.blocks(np.ones(len(features), int), options.columns):
      tile = columns.index[None]
      part = _clip_prior_tile(
          model, params, cache,
          sharding.constant(mesh, np.full(size, header, np.int32)),
          sharding.constant(mesh, start), put(clips[tile]),
          put(tile.astype(np.int32)), vocabulary)
      prior[np.ix_(rows, columns.index)] = (
          sharding.to_host(part)[:len(rows)])
  return prior, length_index


def _even(size, mesh):
  """`size` rounded up so that each device gets as many rows."""
  shards = sharding.batch_shards(mesh)
  return -(-size // shards) * shards


def _tile(matrix, keep, rows, padded, columns):
  """Column numbers [P or 1, C] still to compute, or None."""
  open_cells = np.isnan(matrix[np.ix_(rows, columns)])
  if keep is None:
    return columns[None] if open_cells.any() else None
  if not (open_cells & keep[np.ix_(rows, columns)]).any():
    return None
  return tiles.kept_columns(keep[padded], columns)[0]


def _put(mesh, *arrays):
  """Per-row arrays are dealt out with the rows, shared ones [1, ...] copied."""
  return [sharding.replicate(mesh, x) if x.shape[0] == 1
          else sharding.constant(mesh, x) for x in arrays]


def _finish(matrix, keep, rows, tile, values, bar):
  values = values[:len(rows)]
  columns = np.broadcast_to(tile[:len(rows)], values.shape)
  if not np.isfinite(values).all():
    row, column = np.argwhere(~np.isfinite(values))[0]
    raise ValueError(
        f'the score of row {rows[row]}, column {columns[row, column]} is '
        f'{values[row, column]}: check the weights and the features')
  real = True if keep is None else keep[rows[:, None], columns]
  matrix[rows[:, None], columns] = np.where(
      real, values, matrix[rows[:, None], columns])
  bar.update(int(np.sum(real)) if keep is not None else values.size)


def _progress(name, matrix, keep):
  wanted = np.isnan(matrix) if keep is None else np.isnan(matrix) & keep
  return tqdm(total=int(wanted.sum()), desc=name, unit=' pairs',
              unit_scale=True, disable=jax.process_index() != 0)
