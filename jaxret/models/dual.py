"""A video tower and a text tower whose embeddings meet in one space."""
import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxret.models import decoder as decoder_lib
from jaxret.models import vision as vision_lib


class DualEncoder(nn.Module):
  """Unit vectors of videos and texts in one space, float32 [B, E]."""
  vision_config: vision_lib.VisionConfig
  text_config: decoder_lib.DecoderConfig
  embedding_width: int

  def setup(self):
    self.vision = vision_lib.VisionTower(self.vision_config)
    self.text = decoder_lib.Decoder(self.text_config)
    projection = functools.partial(
        nn.Dense, self.embedding_width, use_bias=False)
    self.video_projection = projection()
    self.text_projection = projection()
    self.log_temperature = self.param(
        'log_temperature', nn.initializers.constant(np.log(0.07)), ())

  def embed_video(self, frames):
    """frames uint8 [B, F, H, W, 3], F a multiple of a clip's frames."""
    batch = frames.shape[0]
    clips = vision_lib.pixel_values(frames).reshape(
        -1, self.vision_config.n_frames, *frames.shape[2:])
    # The mean over a clip's tokens is what BLiM's video vocabulary holds; the
    # clips stay apart, so that their order counts.
    pooled = jnp.mean(self.vision(clips).astype(jnp.float32), 1)
    return _unit(self.video_projection(pooled.reshape(batch, -1)))

  def embed_text(self, tokens, lengths):
    """tokens int [B, T] right-padded, lengths int [B]; the last token's."""
    length = tokens.shape[1]
    keys = decoder_lib.length_mask(lengths, length)
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    hidden = self.text(
        self.text.embed_tokens(tokens), positions,
        decoder_lib.causal(length) & keys[:, None])
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], 1)[:, 0]
    return _unit(self.text_projection(last.astype(jnp.float32)))

  def __call__(self, frames, tokens, lengths):
    return (self.embed_video(frames), self.embed_text(tokens, lengths),
            jnp.exp(self.log_temperature))


def _unit(x):
  return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
