"""A tiny model to score with, and what full passes of its pairs say."""
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data import types
from jaxret.methods.blim import likelihood as blim_likelihood
from jaxret.methods.blim import method as blim
from jaxret.models import decoder
from jaxret.models.videochat import model as vlm
from jaxret.scoring.likelihood import score as likelihood

VISUAL = types.VISUAL
CONFIG = vlm.VlmConfig(
    decoder.DecoderConfig(vocab_size=40, width=16, mlp_width=24, layers=2,
                          heads=4, kv_heads=2, head_width=4),
    visual_width=6, clips=3, tokens_per_clip=2)
MODEL = blim_likelihood.likelihood_model(CONFIG)
VIDEOS, TEXTS = 6, 7
ATOL = 1e-5


def one_device():
  return sharding.make_mesh(devices=jax.devices()[:1])


def make_params():
  """Random, wide enough that scores differ by whole nats."""
  params = blim.init(CONFIG, (), 0, jax.random.key(0))
  params = jax.tree.map(
      lambda leaf: leaf * 2 if leaf.ndim > 1 else leaf, params)
  return jax.device_put(params, sharding.shardings(one_device(), params))


def make_features():
  """float32 [V, clips, tokens, Dv]."""
  return np.random.default_rng(0).normal(size=(
      VIDEOS, CONFIG.clips, CONFIG.tokens_per_clip, CONFIG.visual_width)
  ).astype(np.float32)


def make_prompts():
  """likelihood.Prompts of captions of three lengths."""
  rng = np.random.default_rng(1)
  def tokens(n):
    return rng.integers(1, 40, n).astype(np.int32)
  start, end, header = tokens(4), tokens(2), tokens(3)
  captions = [tokens(n) for n in (2, 5, 2, 5, 5, 9, 2)]
  visual = np.full(CONFIG.clips * CONFIG.tokens_per_clip, VISUAL, np.int32)
  return likelihood.Prompts(
      visual_prefix=np.concatenate([tokens(3), visual, tokens(2)]),
      labels=tuple(np.concatenate([caption, end]) for caption in captions),
      text_prefixes=tuple(
          np.concatenate([start, caption, header]) for caption in captions),
      prior_length=len(start), visual=VISUAL)


class Scores(NamedTuple):
  text_given_video: np.ndarray  # [V, T]
  video_given_text: np.ndarray  # [T, V]
  text_prior: np.ndarray  # [T]
  video_prior: np.ndarray  # [T, V]


@functools.cache
def full_pass(visual_method):
  """Hidden states of one padded sequence under a key mask."""
  module = CONFIG.module()
  def run(params, tokens, features, length, keys):
    apply = functools.partial(module.apply, params)
    visual = apply(features[None], method=visual_method)
    x = apply(tokens[None], visual, method='embed')
    return apply(x, length[None], keys[None], method='hidden')[0]
  return jax.jit(run)


def padded_pass(params, visual_method, tokens, features, hidden_keys):
  """Float64 hidden states [T, D]; `hidden_keys` bool [T] are masked."""
  size = 28
  keys = np.ones(size, bool)
  keys[:len(tokens)] = ~hidden_keys
  row = np.zeros(size, np.int32)
  row[:len(tokens)] = tokens
  hidden = full_pass(visual_method)(
      params, row, features, np.int32(len(tokens)), keys)
  return np.asarray(hidden, np.float64)[:len(tokens)]


def log_softmax(logits):
  peak = logits.max(-1, keepdims=True)
  return logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))


def token_values(params, prompts, features, video, text, prior):
  """log P of each label of one pair, [L]."""
  labels, prefix = prompts.labels[text], prompts.visual_prefix
  tokens = np.concatenate([prefix, labels])
  hidden = padded_pass(params, 'visual_tokens', tokens, features[video],
                       (tokens == VISUAL) & prior)
  kernel = np.asarray(
      params['params']['decoder']['lm_head']['kernel'], np.float64)
  value = log_softmax(hidden[len(prefix) - 1:-1] @ kernel)
  return value[np.arange(len(labels)), labels]


def clip_values(params, prompts, features, video, text, prior):
  """log P of each clip of one pair, [clips]."""
  prefix = prompts.text_prefixes[text]
  tokens = np.concatenate([prefix, np.full(CONFIG.clips, VISUAL)])
  place = np.arange(len(tokens))
  masked = (place >= prompts.prior_length) & (place < len(prefix)) & prior
  hidden = padded_pass(params, 'clip_tokens', tokens, features[video], masked)
  kernel = np.asarray(params['params']['visual_head']['kernel'], np.float64)
  queries = hidden[len(prefix) - 1:-1] @ kernel
  vocabulary = features.mean(2)
  return np.array([
      log_softmax(vocabulary[:, k] @ query / vocabulary.shape[-1] ** 0.5)[video]
      for k, query in enumerate(queries)])


def full_passes(params, features, prompts):
  """Every pair by full passes, in a plain double loop."""
  def matrix(values, prior):
    return np.array([[values(params, prompts, features, v, t, prior).mean()
                      for t in range(TEXTS)] for v in range(VIDEOS)])
  text_prior = matrix(token_values, True)
  assert np.ptp(text_prior, 0).max() < ATOL  # not of the video
  return Scores(matrix(token_values, False), matrix(clip_values, False).T,
                text_prior[0], matrix(clip_values, True).T)
