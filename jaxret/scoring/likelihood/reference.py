"""Likelihoods by full passes for each pair: slow, plain, to compare with.

This is the protocol of the authors' code: every pair runs the whole sequence,
with all keys visible for the likelihood and with those of the other modality
masked for the prior.
"""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxret import losses, sharding
from jaxret.scoring.likelihood import kernels, tries


class Scores(NamedTuple):
  """float32: text_given_video, text_prior [V, T]; the others [T, V]."""
  text_given_video: np.ndarray
  text_prior: np.ndarray
  video_given_text: np.ndarray
  video_prior: np.ndarray


@functools.partial(jax.jit, static_argnums=(0, 1))
def _texts(model, nonzero_denominator, params, tokens, features, keys, labels,
           lengths):
  """Mean log P of the labels [B, L], which end each row of tokens [B, T]."""
  size = tokens.shape[1] - labels.shape[1]
  hidden = model.sequence(params, tokens, 'tokens', features, size + lengths,
                          keys)
  value = losses.token_log_likelihood(
      model.vocabulary_terms(params, hidden[:, size - 1:-1]), labels)
  value = jnp.where(jnp.arange(labels.shape[1]) < lengths[:, None], value, 0.0)
  return kernels.mean_log_likelihood(value, lengths, nonzero_denominator)


@functools.partial(jax.jit, static_argnums=0)
def _videos(model, params, tokens, features, keys, start, videos, vocabulary):
  """Mean log P of the clips of `videos` [B], which follow prefixes [B]."""
  clips = vocabulary.shape[1]
  hidden = model.sequence(params, tokens, 'clips', features, start + clips,
                          keys)
  rows = jnp.take_along_axis(
      hidden, (start[:, None] - 1 + jnp.arange(clips))[..., None], 1)
  return jnp.mean(losses.clip_log_likelihood(
      model.clip_queries(params, rows), vocabulary, videos), -1)


def score(model, params, mesh, prompts, features, vocabulary, options):
  """All pairs of V videos and T texts, four passes each; see likelihood.

  Batches of `options.rows` pairs, rounded up to a multiple of the devices.
  """
  n_videos, n_texts = len(features), len(prompts.labels)
  pairs = np.indices((n_videos, n_texts)).reshape(2, -1).T
  shards = sharding.batch_shards(mesh)
  size = -(-options.rows // shards) * shards
  found = np.empty((4, len(pairs)), np.float32)
  put = functools.partial(sharding.constant, mesh)
  vocabulary = sharding.replicate(mesh, vocabulary)
  # float16 features stay so until the model has them, as in shared mode.
  for first in tqdm(range(0, len(pairs), size), desc='full passes, batches',
                    disable=jax.process_index() != 0):
    videos, texts = np.resize(pairs[first:first + size], (size, 2)).T
    block = put(np.stack([features[int(v)] for v in videos]))
    tokens, labels, lengths, is_visual = _text_sequences(prompts, texts)
    text = functools.partial(
        _texts, model, options.nonzero_denominator, params, put(tokens), block)
    known = put(labels), put(lengths)
    prefixes, start, masked = _video_sequences(
        prompts, texts, vocabulary.shape[1])
    video = functools.partial(_videos, model, params, put(prefixes), block)
    places = put(start), put(videos.astype(np.int32)), vocabulary
    parts = (text(put(np.ones_like(is_visual)), *known),
             text(put(~is_visual), *known),
             video(put(np.ones_like(masked)), *places),
             video(put(~masked), *places))
    count = min(size, len(pairs) - first)
    found[:, first:first + count] = [
        sharding.to_host(part)[:count] for part in parts]
  found = found.reshape(4, n_videos, n_texts)
  return Scores(found[0], found[1], found[2].T, found[3].T)


def _text_sequences(prompts, texts):
  """(tokens [B, T], labels [B, L], lengths [B], bool [B, T] is the video)."""
  size = max(map(len, prompts.labels))
  labels = tries.stack([prompts.labels[t] for t in texts], size)
  lengths = np.array([len(prompts.labels[t]) for t in texts], np.int32)
  prefix = np.broadcast_to(
      prompts.visual_prefix, (len(texts), len(prompts.visual_prefix)))
  tokens = np.concatenate([prefix, labels], 1).astype(np.int32)
  is_visual = np.concatenate(
      [prefix == prompts.visual, np.zeros(labels.shape, bool)], 1)
  return tokens, labels, lengths, is_visual


def _video_sequences(prompts, texts, clips):
  """(tokens [B, T], first clip [B], bool [B, T] what the prior masks)."""
  start = np.array([len(prompts.text_prefixes[t]) for t in texts], np.int32)
  size = max(map(len, prompts.text_prefixes)) + clips
  tokens = tries.stack([prompts.text_prefixes[t] for t in texts], size)
  place = np.arange(size)
  is_clip = (place >= start[:, None]) & (place < start[:, None] + clips)
  masked = (place >= prompts.prior_length) & (place < start[:, None])
  return (np.where(is_clip, prompts.visual, tokens).astype(np.int32), start,
          masked)
