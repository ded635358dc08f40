"""A contrastive video-text dual encoder, trained from scratch.

It plays two parts where no published weights are at hand: its video tower
gives the frozen features that UMT-L gives the real model, and its similarity
matrix is the first stage of a cascade, as InternVideo2's is in the paper.
The tower is UMT's (Li et al. 2023), the losses are CoCa's (Yu et al. 2022): in
batch contrast and captioning.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import losses, sharding
from jaxret.methods import base
from jaxret.models import decoder as decoder_lib
from jaxret.models.videochat import dual as dual_lib
from jaxret.models.videochat import vision as vision_lib
from jaxret.scoring.likelihood import tries


@functools.lru_cache
def _module(*sizes):
  return dual_lib.DualEncoder(*sizes)


def module(config, tokenizer):
  m = config.model
  text = decoder_lib.DecoderConfig(
      vocab_size=tokenizer.vocab_size, width=m.width, mlp_width=m.mlp_width,
      layers=m.layers, heads=m.heads, kv_heads=m.heads,
      head_width=m.width // m.heads, rope_theta=1e4, tie_embeddings=True,
      dtype=m.dtype, attention=m.get('attention', 'xla'))
  vision = vision_lib.vision_config(config.vision, attention=text.attention)
  return _module(vision, text, m.embedding_width,
                 config.vision.tokens_per_clip)


def method(config, tokenizer):
  dual = module(config, tokenizer)
  n_frames = config.vision.clips * config.vision.n_frames
  return base.Method(
      name='dual_encoder', init=functools.partial(init, dual, n_frames),
      load=None, loss=functools.partial(loss, dual),
      examples=functools.partial(PairExamples, tokenizer),
      trainable=('.*',), train_flops=functools.partial(train_flops, dual),
      tokens=lambda batch: int(batch['length'].sum()) + (
          batch['frames'].shape[0] * batch['frames'].shape[1]
          * dual.vision_config.grid ** 2))


def init(dual, n_frames, key):
  px = dual.vision_config.image_px
  return dual.init(key, jnp.zeros((1, n_frames, px, px, 3), jnp.uint8),
                   jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32))


class PairExamples:
  """One example per caption: its tokens and the frames of its video."""

  def __init__(self, tokenizer, split, visuals):
    self.ids = [text.id for text in split.texts]
    self.constants = {}
    self._visuals, self._video = visuals, split.text_video
    self._tokens = token_rows(tokenizer, split.texts)
    self._size = max(map(len, self._tokens))

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    tokens, video = self._tokens[index], int(self._video[index])
    return {'frames': self._visuals[video],
            'tokens': tries.stack([tokens], self._size)[0],
            'length': np.int32(len(tokens)), 'video_index': np.int32(video)}


def token_rows(tokenizer, texts):
  """The tokens of each text and the end token that pools them."""
  return [np.array(tokenizer.encode(text.text) + [tokenizer.end_id], np.int32)
          for text in texts]


def loss(dual, params, constants, batch, key):
  """Symmetric InfoNCE over the global batch plus captioning, 1:1.

  Captions teach the tower words; similarity alone learns colours and little
  else in the few minutes that there are. See base.Method.
  """
  del constants, key
  video, text, temperature, terms = dual.apply(
      params, batch['frames'], batch['tokens'], batch['length'])
  contrastive = losses.info_nce(
      text, video, jnp.maximum(temperature, 0.01), batch['video_index'])
  mask = decoder_lib.length_mask(batch['length'], batch['tokens'].shape[1])
  caption = losses.token_mean(
      losses.token_log_likelihood(terms, batch['tokens']), mask)
  best = jnp.argmax(text @ video.T, 1) == jnp.arange(len(text))
  return contrastive + caption, {
      'contrastive_loss': jnp.mean(contrastive),
      'caption_loss': jnp.mean(caption),
      'accuracy': jnp.mean(best.astype(jnp.float32)),
      'temperature': temperature}


def train_flops(dual, batch):
  """Minimal model FLOPs of forward and backward on one batch."""
  v, t = dual.vision_config, dual.text_config
  tokens = v.n_frames * v.grid ** 2
  per_clip = tokens * 2 * v.layers * v.width * (
      4 * v.width + 2 * v.mlp_width) + 4 * v.layers * v.width * tokens ** 2
  clips = batch['frames'].shape[0] * batch['frames'].shape[1] // v.n_frames
  rows = 2 * batch['tokens'].size + clips * dual.tokens_per_clip
  text = rows * decoder_lib.flops_per_token(t) + (
      batch['tokens'].size * decoder_lib.head_flops(t))
  return 3 * (per_clip * clips + text)


def similarity(config, tokenizer, params, texts, visuals, batch_size=32):
  """Cosine similarity of all texts and videos, float32 [T, V].

  visuals: Visuals that give frames.
  """
  dual = module(config, tokenizer)
  video = jax.jit(functools.partial(dual.apply, method='embed_video'))
  text = jax.jit(functools.partial(dual.apply, method='embed_text'))
  tokens = token_rows(tokenizer, texts)
  size = max(map(len, tokens))
  def rows(count, embed):
    parts = []
    for first in range(0, count, batch_size):
      index = np.arange(first, min(first + batch_size, count))
      padded = np.resize(index, batch_size)
      parts.append(sharding.to_host(embed(padded))[:len(index)])
    return np.concatenate(parts)
  videos = rows(len(visuals), lambda index: video(
      params, np.stack([visuals[int(i)] for i in index])))
  texts = rows(len(tokens), lambda index: text(
      params, tries.stack([tokens[i] for i in index], size),
      np.array([len(tokens[i]) for i in index], np.int32)))
  return texts @ videos.T
