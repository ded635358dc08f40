"""BLiM's model: decoder, two projectors and the visual head.

Source: VideoChat-Flash (arXiv 2501.00574) and BLiM (arXiv 2507.23284).
"""
import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from jaxret.data import types
from jaxret.models import decoder as decoder_lib
from jaxret.models import layers, masks


class Projector(nn.Module):
  """Linear, exact GELU, linear: visual features into the decoder's width."""
  config: decoder_lib.DecoderConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = c.dense(c.width, use_bias=True, name='in')(x)
    return c.dense(c.width, use_bias=True, name='out')(
        nn.gelu(x, approximate=False))


class Projectors(nn.Module):
  config: decoder_lib.DecoderConfig

  def setup(self):
    self.vtg = Projector(self.config)
    self.tvg = Projector(self.config)


class Vlm(nn.Module):
  """Scores text given video (VTG) and video given text (TVG)."""
  config: decoder_lib.DecoderConfig
  visual_width: int

  def setup(self):
    c = self.config
    self.decoder = decoder_lib.Decoder(c)
    self.projector = Projectors(c)
    # float32 as in the authors' code: it is trained whole, not by LoRA.
    self.visual_head = layers.Dense(
        self.visual_width, kernel_init=nn.initializers.normal(0.02))

  def visual_tokens(self, features):
    """features [..., clips, tokens, Dv] -> [..., clips * tokens, D]."""
    x = self.projector.vtg(features)
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])

  def clip_tokens(self, features):
    """features [..., clips, tokens, Dv] -> [..., clips, D].

    Projected first, then averaged over the tokens of a clip (spec §1).
    """
    return jnp.mean(self.projector.tvg(features), -2)

  def embed(self, tokens, visual=None):
    """Token embeddings with the visual ones at the placeholders, in order.

    tokens int [B, T]; visual [B, n, D], n >= the placeholders of a row.
    """
    x = self.decoder.embed_tokens(tokens)
    if visual is None:
      return x
    # Matrix products in place of a running sum and a gather: exact, and what
    # TPUs compile to fast code, in the backward pass above all.
    is_visual = tokens == types.VISUAL
    order = jnp.sum(decoder_lib.causal(tokens.shape[1]) & is_visual[:, None], 2)
    order = jnp.where(is_visual, order - 1, -1)
    chosen = (order[..., None] == jnp.arange(visual.shape[1])).astype(x.dtype)
    placed = jnp.einsum('BTn,BnD->BTD', chosen, visual.astype(x.dtype),
                        precision='highest')
    return jnp.where(is_visual[..., None], placed, x)

  def hidden(self, x, lengths, keys=None):
    """Causal hidden states of right-padded rows.

    x [B, T, D], lengths int [B]; keys bool [B, T] further hides keys (the
    masks of candidate prior normalization).
    """
    length = x.shape[1]
    mask = decoder_lib.length_mask(lengths, length)
    mask = mask if keys is None else mask & keys
    positions = jnp.broadcast_to(jnp.arange(length), x.shape[:2])
    return self.decoder(
        x, positions, masks.causal(mask))

  def prefix(self, x, positions, lengths):
    """Last hidden state [P, D] and Cache of right-padded prefixes [P, S, D]."""
    length = x.shape[1]
    keys = decoder_lib.length_mask(lengths, length)
    mask = masks.causal(keys)
    hidden, cache = self.decoder.prefix(x, positions, mask, keys)
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], 1)
    return last[:, 0], cache

  def suffix(self, cache, x, positions, chains):
    return self.decoder.suffix(cache, x, positions, decoder_lib.Chains(*chains))

  def start(self, batch):
    """Reads prompts that are to be continued; see models.generation.

    batch: tokens int [B, T], right-padded, length int [B], features
    [B, clips, tokens, Dv]. Returns (last hidden [B, D], Cache, the position
    int [B] of the next token).
    """
    tokens, length = batch['tokens'], batch['length']
    x = self.embed(tokens, self.visual_tokens(batch['features']))
    positions = jnp.broadcast_to(jnp.arange(x.shape[1]), tokens.shape)
    return *self.prefix(x, positions, length), length

  def step(self, cache, tokens, positions, column):
    """One more token int [B] at its position int [B]; see Decoder.step."""
    hidden, cache = self.decoder.step(
        cache, self.decoder.embed_tokens(tokens[:, None]), positions[:, None],
        column)
    return hidden[:, 0], cache

  def vocabulary_terms(self, hidden):
    return self.decoder.vocabulary_terms(hidden)

  def clip_queries(self, hidden):
    """hidden [..., D] -> float32 [..., Dv], to be matched with the clips."""
    return self.visual_head(hidden.astype(jnp.float32))

  def __call__(self, features, tokens):
    """Touches every parameter once; only `init` calls it."""
    x = self.embed(tokens, self.visual_tokens(features))
    x = x + jnp.mean(self.clip_tokens(features), -2, keepdims=True)
    hidden = self.hidden(x, jnp.full(x.shape[0], x.shape[1]))
    return self.vocabulary_terms(hidden), self.clip_queries(hidden)


@dataclasses.dataclass(frozen=True)
class VlmConfig:
  decoder: decoder_lib.DecoderConfig
  visual_width: int
  clips: int
  tokens_per_clip: int

  def module(self):
    return Vlm(self.decoder, self.visual_width)

  def check_features(self, shape):
    """Raises ValueError unless features of one video have the model's shape."""
    wanted = self.clips, self.tokens_per_clip, self.visual_width
    if tuple(shape) != wanted:
      raise ValueError(
          f'features of a video have shape {tuple(shape)}, the model wants '
          f'{wanted} (clips, tokens, width): set model.clips, '
          'model.tokens_per_clip and model.visual_width to fit the features, '
          'or use other features')


def train_flops(vlm, frozen_base, batch):
  """Minimal model FLOPs of a step; a frozen base needs no weight gradients."""
  c = vlm.decoder
  rows, labels = batch['labels'].shape
  vtg = labels - 1 + int(batch['visual_prefix_length'][0])
  tvg = batch['text_prefix'].shape[1] + vlm.clips - 1
  forward = rows * (
      decoder_lib.flops_per_token(c) * (vtg + tvg)
      + decoder_lib.attention_flops(c, vtg)
      + decoder_lib.attention_flops(c, tvg)
      + decoder_lib.head_flops(c) * labels)
  return forward * (2 if frozen_base else 3)


def train_tokens(vlm, batch):
  """Tokens that the model reads in one batch, padding aside."""
  rows = len(batch['labels'])
  return int(rows * (batch['visual_prefix_length'][0] + vlm.clips)
             + batch['label_length'].sum() + batch['text_prefix_length'].sum())
