"""Qwen3-VL: vision tower, mergers and decoder, with DeepStack between them.

Source: Qwen3-VL technical report (arXiv 2511.21631). Where patches, tokens and
positions go is computed on the host, see data.qwen3_vl.layout.
"""
import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxret.models import decoder as decoder_lib
from jaxret.models import deepstack, masks, names
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen3_vl import vision as vision_lib


@dataclasses.dataclass(frozen=True)
class Qwen3VlConfig:
  """Sizes of both parts. Positions are those of M-RoPE always.

  processor: (field, value) pairs of data.qwen3_vl.pixels.Processor, where the
  files say how media are made for the model; nothing is computed with it here.
  """
  decoder: decoder_lib.DecoderConfig
  vision: vision_lib.VisionConfig
  processor: tuple[tuple[str, Any], ...] = dataclasses.field(
      default=(), compare=False)

  def __post_init__(self):
    sections, half = self.decoder.rope_sections, self.decoder.head_width // 2
    if len(sections) != 3 or sum(sections) != half or (
        3 * max(sections[1:]) > half):
      raise ValueError(
          f'rope_sections {tuple(sections)}: want three numbers for time, row '
          f'and column that sum to {half}, half the head width, the last two '
          'at most a third of it each')
    if self.vision.out_width != self.decoder.width:
      raise ValueError(
          f'the tower gives tokens of width {self.vision.out_width}, the '
          f'decoder wants {self.decoder.width}: make them equal')
    if len(self.vision.deepstack) > self.decoder.layers:
      raise ValueError(
          f'{len(self.vision.deepstack)} DeepStack levels, the decoder has '
          f'{self.decoder.layers} layers: want a layer for each')

  name = 'qwen3_vl'
  position_mode = 'mrope'
  weights = names.QWEN3_VL

  @property
  def width(self):
    """How many numbers an embedding has, D."""
    return self.decoder.width

  def module(self):
    return Qwen3Vl(self)


class Qwen3Vl(qwen2_vl.Qwen2Vl):
  """As Qwen2Vl, where a visual token is its K + 1 features side by side.

  The first enters the decoder as an embedding, the others behind its first K
  layers.
  """
  config: Qwen3VlConfig

  def _tokens_of_rows(self, seen):
    """[B, S * P / 4, (1 + K) * D]; seen as for visual_tokens."""
    def rows(x):  # the rows of an item are rows of their own
      return x.reshape(-1, *x.shape[2:])
    tokens, levels = self.vision(*map(rows, seen))
    tokens = jnp.concatenate([tokens, *levels], -1)
    return tokens.reshape(len(seen[0]), -1, tokens.shape[-1])

  def levels(self, visual):
    """[B, M, (1 + K) * D] -> [1 + K, B, M, D]."""
    parts = visual.reshape(*visual.shape[:-1], -1, self.config.width)
    return jnp.moveaxis(parts, -2, 0)

  def placed(self, tokens, visual, visual_index):
    """As of Qwen2Vl, and what enters behind the first layers."""
    if visual is None:
      return self.decoder.embed_tokens(tokens), None
    first, *others = self.levels(visual)
    x = self.embed(tokens, first, visual_index)
    if not others:
      return x, None
    return x, deepstack.Visual(jnp.stack(others), visual_index)

  def start(self, batch):
    """Reads prompts that are to be continued; see models.generation."""
    x, visual = self.read(batch)
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    positions = jnp.swapaxes(batch['positions'], 0, 1)
    # A prompt ends in text, whose positions are the same on all axes.
    next_position = 1 + jnp.take_along_axis(
        positions[0], (batch['length'] - 1)[:, None], 1)[:, 0]
    hidden, cache = self.decoder.prefix(
        x, positions, masks.causal(keys), keys,
        visual)
    return qwen2_vl.last(hidden, keys), cache, next_position

  def pooled(self, batch):
    """The hidden state [B, D] at the last token of each row; as the call."""
    x, visual = self.read(batch)
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    return qwen2_vl.last(
        self.hidden(x, keys, batch['positions'], visual), keys)

  def __call__(self, batch):
    """Unit vectors float32 [B, D] of a batch as data.qwen3_vl.reader pads it.

    batch: tokens int [B, T], right-padded, length int [B], positions int
    [B, 3, T]; if there is anything to see patches, segments, coordinates and
    visual_index int [B, T].
    """
    return qwen2_vl.unit(self.pooled(batch))


def init_batch(config):
  """The smallest batch that touches every parameter; for `init`."""
  patches = config.vision.merge ** 2
  return {**qwen2_vl.init_batch(config),
          'coordinates': jnp.ones((1, 1, patches, 4), jnp.int32)}


def init(config, key, head=True):
  """Random parameters {'params': ...}, the output head too if it is untied.

  head: False leaves it out, for what embeds alone.
  """
  if not head:
    return config.module().init(key, init_batch(config))

  def both(module, batch):
    return module.vocabulary_terms(module.pooled(batch))
  return config.module().init(key, init_batch(config), method=both)
