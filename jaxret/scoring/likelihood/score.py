"""Exhaustive likelihood scoring in both directions, nothing computed twice.

The prefix of a row (a video with its instruction, a text with its prompt) is
encoded once; every candidate is then a suffix of a few tokens that attends to
the stored keys and values. It yields BLiM's two matrices and two priors
(arXiv 2507.23284, section 3) with the numbers of one full pass per pair.
This module knows no model: `kernels.LikelihoodModel` is what a decoder offers.
"""
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.scoring.likelihood import (
  filling,
  kernels,
  layouts,
  packing,
  tiles,
  tries,
)

VERSION = 2  # of the numbers: scores of another version are not resumed
FIXED_VERSION = 1  # of those that are invariant
MODES = ('shared', 'canonical', 'reference')


class Prompts(NamedTuple):
  """The token sequences of one set of texts.

  visual_prefix: int [S], up to the caption, `visual` at each video token.
  labels: T arrays int [L], the scored tokens of each caption, two at least.
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
  """How scores are computed; the last three change what comes out.

  rows x columns of a tile; max_padding of a length bucket. share: compute what
  captions of a tile begin with alike only once.
  nonzero_denominator: divide a caption's log-likelihood by the labels whose
  loss is not exactly 0, as the authors' code does, not by all its labels.
  mode: 'shared', what pairs have in common is computed once; 'canonical', the
  same, but the video prior is that of one caption length for all texts, an
  approximation; 'reference', full passes for each pair, to compare with.
  invariant: tiles have fixed shapes, whatever the first four say, and all that
  is written is rounded, so that a pair's score has the same bits however others
  are scored with it, and on any number of devices that split rows alone. In
  video given text all videos, in their order, are part of what a score is.
  """
  rows: int = 32
  columns: int = 64
  max_padding: float = 0.1
  share: bool = True
  nonzero_denominator: bool = True
  mode: str = 'shared'
  invariant: bool = False

  def program(self, kernel):
    """One of `kernels`, compiled as these scores want it."""
    return kernels.rounded(kernel) if self.invariant else kernel


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

  Returns how many tokens went through the decoder.

  Args:
    model, params, mesh: `params` live on `mesh`. options: tile sizes.
    prompts: of the T texts.
    features: Visuals of the V videos, [clips, tokens, Dv] each.
    matrix: float32 [V, T], NaN where it is still to be computed; a memory
      map keeps every finished tile. None on all processes but 0.
    keep: bool [V, T], the pairs to score, see packing.pack; None = all.
  """
  strips, inputs_of = layouts.captions(
      prompts.labels, options, mesh,
      layouts.visual_prefixes(prompts, len(features)), keep)
  sheet = filling.Filling('text given video', matrix, strips)
  size = len(prompts.visual_prefix)
  for s, strip in enumerate(strips):
    prefix = None
    for t in range(len(strip.tiles)):
      if not sheet.is_open(s, t):
        continue
      if prefix is None:
        prefix = _visual_prefix(
            model, params, mesh, prompts, features, strip.padded, options)
        start = sharding.constant(mesh, np.full(strip.size, size, np.int32))
        sheet.tokens += strip.size * size
      (tokens, *layout), *scored = inputs_of(strip, t)
      tokens, labels, lengths = _put(mesh, tokens, *scored)
      values = options.program(kernels.text_tile)(
          model, options.nonzero_denominator, params, *prefix, start,
          (tokens, *layout), labels, lengths)
      work = strip.size * tokens.shape[1]
      sheet.put(s, t, values, work, work * (
          model.cost.token + size * model.cost.key + model.cost.logits))
  return sheet.close()


@_on_mesh
def first_labels(model, params, mesh, prompts, features, options, matrix):
  """Fills matrix [V, T] with log P(first label of each text | video).

  It comes with a video's prefix: no caption goes through the decoder. See
  `score_texts`.
  """
  size = len(prompts.visual_prefix)
  labels = np.array([label[0] for label in prompts.labels], np.int32)
  strips = packing.grid(np.full(len(features), size), [np.arange(len(labels))],
                        layouts.limits(options, mesh))
  sheet = filling.Filling('first labels', matrix, strips)
  for s, strip in enumerate(strips):
    if sheet.is_open(s, 0):
      first, _ = _visual_prefix(
          model, params, mesh, prompts, features, strip.padded, options)
      work = strip.size * size
      sheet.put(
          s, 0, kernels.first_label(first, sharding.replicate(mesh, labels)),
          work, work * model.cost.token)
  return sheet.close()


def _visual_prefix(model, params, mesh, prompts, features, rows, options):
  """(log P(first token) [P, V], cache) of the prefix with each of P videos."""
  return options.program(kernels.visual_prefix)(
      model, params, np.asarray(prompts.visual_prefix, np.int32),
      sharding.constant(mesh, _features(features, rows)))


@_on_mesh
def score_videos(model, params, mesh, prompts, features, vocabulary, options,
                 matrix, keep=None):
  """Fills matrix [T, V] with log P(video | text); see `score_texts`.

  vocabulary: float32 [V, clips, Dv], the token means of all V videos.
  """
  lengths = np.array([len(p) for p in prompts.text_prefixes])
  clips = clip_inputs(model, params, mesh, features, options)
  strips = layouts.clips(prompts, options, mesh, vocabulary.shape[:2], keep)
  vocabulary = sharding.replicate(mesh, vocabulary)
  sheet = filling.Filling('video given text', matrix, strips)
  for s, strip in enumerate(strips):
    prefix = None
    for t, tile in enumerate(strip.tiles):
      if not sheet.is_open(s, t):
        continue
      if prefix is None:
        start = sharding.constant(mesh, lengths[strip.padded].astype(np.int32))
        prefix = _text_prefix(model, params, mesh, [
            prompts.text_prefixes[t] for t in strip.padded], strip.length,
                              start, vocabulary, options)
        sheet.tokens += strip.size * strip.length
      index = strip.columns(tile).astype(np.int32)
      values = options.program(kernels.clip_tile)(
          model, params, *prefix, start, *_put(mesh, clips[index], index),
          vocabulary)
      work = strip.size * index.shape[1] * clips.shape[1]
      sheet.put(s, t, values, work, work * (
          model.cost.token + strip.length * model.cost.key
          + model.cost.clip_query + len(vocabulary) * model.cost.clip_logit))
  return sheet.close()


@_on_mesh
def first_clips(model, params, mesh, prompts, vocabulary, options, matrix):
  """Fills matrix [T, V] with log P(clip 1 of each video | text).

  It comes with a text's prefix by one matmul for all videos: no clip goes
  through the decoder. See `score_videos`.
  """
  lengths = np.array([len(p) for p in prompts.text_prefixes])
  strips = packing.grid(lengths, [np.arange(len(vocabulary))],
                        layouts.limits(options, mesh))
  vocabulary = sharding.replicate(mesh, vocabulary)
  sheet = filling.Filling('first clips', matrix, strips)
  for s, strip in enumerate(strips):
    if sheet.is_open(s, 0):
      start = sharding.constant(mesh, lengths[strip.padded].astype(np.int32))
      first, _ = _text_prefix(model, params, mesh, [
          prompts.text_prefixes[t] for t in strip.padded], strip.length, start,
                              vocabulary, options)
      work = strip.size * strip.length
      sheet.put(s, 0, first, work, work * model.cost.token
                + strip.size * len(vocabulary) * model.cost.clip_logit)
  return sheet.close()


def _text_prefix(model, params, mesh, prefixes, length, start, vocabulary,
                 options):
  """(log P(first clip) of all videos [R, V], cache) of R text prefixes."""
  tokens = tries.stack(prefixes, length)
  positions = np.broadcast_to(np.arange(length), tokens.shape)
  last, cache = options.program(kernels.text_prefix)(
      model, params, sharding.constant(mesh, tokens),
      sharding.constant(mesh, positions.astype(np.int32)), start)
  first = options.program(kernels.first_clip)(model, params, last, vocabulary)
  return first, cache


def clip_inputs(model, params, mesh, features, options):
  """Every video's clips but the last as decoder inputs, [V, clips - 1, D]."""
  limits = layouts.limits(options, mesh)
  ones = np.ones(len(features), int)
  rows_of = (tiles.fixed_blocks(ones, limits.rows) if limits.fixed else
             tiles.blocks(ones, limits.rows, multiple=limits.multiple))
  size = limits.rows if limits.fixed else _even(len(rows_of[0].index), mesh)
  parts = []
  for rows in rows_of:
    block = _features(features, tiles.fill(rows.index, size))
    clips = options.program(kernels.clip_tokens)(
        model, params, sharding.constant(mesh, block))
    parts.append(sharding.to_host(clips)[:len(rows.index)])
  return np.concatenate(parts)


@_on_mesh
def text_priors(model, params, mesh, prompts, options):
  """log P(text) [T] of the text alone, at its positions after a video.

  The video's keys are masked and its positions stay (spec §4), so that the
  prior does not depend on the video: one prefix serves all texts.

  Returns:
    float32 [T], and how many tokens went through the decoder.
  """
  everywhere = np.asarray(prompts.visual_prefix, np.int32)
  positions = np.flatnonzero(everywhere != prompts.visual).astype(np.int32)
  multiple = sharding.batch_shards(mesh)
  # The same prefix on each device, the texts dealt out among them.
  def rows(x):
    return sharding.constant(mesh, np.repeat(x[None], multiple, 0))

  last, cache = options.program(kernels.text_prefix)(
      model, params, rows(everywhere[positions]), rows(positions),
      rows(np.int32(len(positions))))
  first = options.program(kernels.next_token)(model, params, last)
  prior = np.empty(len(prompts.labels), np.float32)
  start, tokens = rows(np.int32(len(everywhere))), len(positions)
  for block, columns in layouts.alone(prompts, options, mesh):
    index = tiles.fill(block.index, columns * multiple)
    index = index.reshape(multiple, columns)
    (words, *layout), *scored = layouts.rectangle(
        prompts.labels, index, block.length)
    words, labels, length = _put(mesh, words, *scored)
    values = options.program(kernels.text_tile)(
        model, options.nonzero_denominator, params, first, cache, start,
        (words, *layout), labels, length)
    prior[index] = sharding.to_host(values)
    tokens += words.size
  return prior, tokens


@_on_mesh
def video_priors(model, params, mesh, prompts, features, vocabulary, options):
  """log P(video) without its text, for each distinct length of a text prefix.

  The prefix stops before the caption, but the clips keep their positions: the
  prior depends on the text through its token count alone (spec §5.2). In
  `canonical` mode one length, the median, stands for all.

  Returns:
    float32 [distinct lengths, V]; int [T], which of them is each text's; and
    how many tokens went through the decoder.
  """
  values, length_index = prior_lengths(prompts, options)
  tokens = np.asarray(
      prompts.text_prefixes[0][:prompts.prior_length], np.int32)[None]
  put = functools.partial(sharding.replicate, mesh)
  positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
  _, cache = options.program(kernels.text_prefix)(
      model, params, put(tokens), put(positions),
      put(np.array([tokens.shape[1]], np.int32)))
  clips = clip_inputs(model, params, mesh, features, options)
  header = prompts.text_prefixes[0][-1]
  prior = np.empty((len(values), len(features)), np.float32)
  vocabulary, count = put(vocabulary), tokens.size
  limits = layouts.limits(options, mesh)
  size = limits.rows if limits.fixed else min(
      _even(len(values), mesh), _even(options.rows, mesh))
  for first in range(0, len(values), size):
    rows = np.arange(first, min(first + size, len(values)))
    start = values[tiles.fill(rows, size)].astype(np.int32)
    for columns in layouts.video_columns(len(features), options):
      tile = (tiles.fill(columns.index, limits.columns) if limits.fixed
              else columns.index)[None]
      part = options.program(kernels.clip_prior_tile)(
          model, params, cache,
          sharding.constant(mesh, np.full(size, header, np.int32)),
          sharding.constant(mesh, start), put(clips[tile]),
          put(tile.astype(np.int32)), vocabulary)
      prior[np.ix_(rows, columns.index)] = (
          sharding.to_host(part)[:len(rows), :len(columns.index)])
      count += size * (1 + tile.shape[1] * clips.shape[1])
  return prior, length_index, count


def prior_lengths(prompts, options):
  """(distinct prefix lengths [N], which of them is each text's [T])."""
  lengths = np.array([len(p) for p in prompts.text_prefixes])
  if options.mode == 'canonical':
    lengths = np.full(len(lengths), int(np.median(lengths)))
  return np.unique(lengths, return_inverse=True)


def _even(size, mesh):
  """`size` rounded up so that each device gets as many rows."""
  shards = sharding.batch_shards(mesh)
  return -(-size // shards) * shards


def _features(features, index):
  return np.stack([features[int(v)] for v in index])


def _put(mesh, *arrays):
  """Per-row arrays are dealt out with the rows, shared ones [1, ...] copied."""
  return [sharding.replicate(mesh, x) if x.shape[0] == 1
          else sharding.constant(mesh, x) for x in arrays]
