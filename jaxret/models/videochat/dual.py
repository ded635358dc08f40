"""A video tower and a text tower whose embeddings meet in one space."""
import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxret.models import decoder as decoder_lib
from jaxret.models import masks
from jaxret.models.videochat import tome
from jaxret.models.videochat import vision as vision_lib


class DualEncoder(nn.Module):
  """Unit vectors of videos and texts in one space, float32 [B, E]."""
  vision_config: vision_lib.VisionConfig
  text_config: decoder_lib.DecoderConfig
  embedding_width: int
  tokens_per_clip: int

  def setup(self):
    self.vision = vision_lib.VisionTower(self.vision_config)
    self.text = decoder_lib.Decoder(self.text_config)
    projection = functools.partial(
        nn.Dense, self.embedding_width, use_bias=False)
    self.video_projection = projection()
    self.text_projection = projection()
    self.caption_projection = nn.Dense(self.text_config.width)
    self.log_temperature = self.param(
        'log_temperature', nn.initializers.constant(np.log(0.07)), ())

  def embed_video(self, frames):
    """frames uint8 [B, F, H, W, 3], F a multiple of a clip's frames."""
    return self._pooled(self.clip_tokens(frames))

  def clip_tokens(self, frames):
    """frames uint8 [B, F, H, W, 3] -> [B, clips, tokens, D]."""
    clips = vision_lib.pixel_values(frames).reshape(
        -1, self.vision_config.n_frames, *frames.shape[2:])
    tokens = self.vision(clips)
    return tokens.reshape(frames.shape[0], -1, *tokens.shape[1:])

  def _pooled(self, tokens):
    # The mean over a clip's tokens is what BLiM's video vocabulary holds; the
    # clips stay apart, so that their order counts.
    pooled = jnp.mean(tokens.astype(jnp.float32), 2)
    return _unit(self.video_projection(pooled.reshape(len(tokens), -1)))

  def _caption_terms(self, tokens, captions):
    """Vocabulary terms of the rows that predict the captions' tokens.

    The decoder reads the merged tokens of the video, which are what BLiM will
    read, then the caption.
    """
    merged = tome.merge_tokens(
        tokens, self.tokens_per_clip, self.vision_config.heads)
    visual = self.caption_projection(
        merged.reshape(len(tokens), -1, tokens.shape[-1]))
    x = jnp.concatenate(
        [visual, self.text.embed_tokens(captions[:, :-1])], 1)
    positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
    hidden = self.text(x, positions, decoder_lib.causal(x.shape[1]))
    return self.text.vocabulary_terms(hidden[:, visual.shape[1] - 1:])

  def embed_text(self, tokens, lengths):
    """tokens int [B, T] right-padded, lengths int [B]; the last token's."""
    length = tokens.shape[1]
    keys = decoder_lib.length_mask(lengths, length)
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    hidden = self.text(
        self.text.embed_tokens(tokens), positions,
        masks.causal(keys))
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], 1)[:, 0]
    return _unit(self.text_projection(last.astype(jnp.float32)))

  def __call__(self, frames, tokens, lengths):
    """(video [B, E], text [B, E], temperature, terms of rows [B, T])."""
    clip_tokens = self.clip_tokens(frames)
    return (self._pooled(clip_tokens), self.embed_text(tokens, lengths),
            jnp.exp(self.log_temperature),
            self._caption_terms(clip_tokens, tokens))


def _unit(x):
  return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
