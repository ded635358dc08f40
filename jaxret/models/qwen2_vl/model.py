"""Qwen2-VL as an embedder: vision tower, merger and decoder, one unit vector.

Source: Qwen2-VL (arXiv 2409.12191) and UNITE (arXiv 2505.19650). Where
patches, tokens and positions go is computed on the host, see
data.qwen2_vl.layout; here it is gathered.
"""
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxret import sharding
from jaxret.models import decoder as decoder_lib
from jaxret.models import masks, names
from jaxret.models.qwen2_vl import vision as vision_lib

POSITION_MODES = ('sequential', 'mrope')
POOLINGS = ('last', 'mean')
# Of an item, which bounds the memory of long videos.
PATCHES_AT_ONCE = 16384


@dataclasses.dataclass(frozen=True)
class Qwen2VlConfig:
  """Sizes of both parts, and which positions the decoder is given.

  position_mode: 'sequential' counts 0, 1, 2, ... on all axes, as UNITE does
  (spec §2); 'mrope' is Qwen2-VL's own rule with time, row and column apart.
  pooling: of an embedding, the state at the 'last' token or their 'mean'.
  """
  decoder: decoder_lib.DecoderConfig
  vision: vision_lib.VisionConfig
  position_mode: str = 'sequential'
  pooling: str = 'last'

  def __post_init__(self):
    if self.pooling not in POOLINGS:
      raise ValueError(f'pooling {self.pooling!r} is unknown; want one of '
                       f'{", ".join(POOLINGS)}')
    sections, half = self.decoder.rope_sections, self.decoder.head_width // 2
    if self.position_mode not in POSITION_MODES:
      raise ValueError(f'position_mode {self.position_mode!r} is unknown; want '
                       f'one of {", ".join(POSITION_MODES)}')
    if self.position_mode == 'mrope' and (
        len(sections) != 3 or sum(sections) != half):
      raise ValueError(
          f'rope_sections {tuple(sections)}: want three numbers for time, row '
          f'and column that sum to {half}, half the head width')
    if self.vision.out_width != self.decoder.width:
      raise ValueError(
          f'the tower gives tokens of width {self.vision.out_width}, the '
          f'decoder wants {self.decoder.width}: make them equal')

  name = 'qwen2_vl'
  weights = names.QWEN2_VL

  @property
  def width(self):
    """How many numbers an embedding has, D."""
    return self.decoder.width

  def module(self):
    return Qwen2Vl(self)


class Qwen2Vl(nn.Module):
  config: Qwen2VlConfig

  def setup(self):
    self.decoder = decoder_lib.Decoder(self.config.decoder)
    self.vision = self.config.vision.module()

  def visual_tokens(self, patches, segments, coordinates):
    """Merged tokens of each item, [B, S * P / 4, D].

    patches [B, S, P, 1176], segments [B, S, P], coordinates [B, S, P, 2]; see
    vision.VisionTower. Of long videos some rows at a time.
    """
    n_items, n_rows, row_patches = segments.shape
    seen = patches, segments, coordinates
    part_rows = max(1, PATCHES_AT_ONCE // row_patches)
    if n_rows <= part_rows:
      return self._tokens_of_rows(seen)
    parts = -(-n_rows // part_rows)
    def split(x):  # [B, S, ...] -> [parts, B, part_rows, ...]
      room = [(0, 0)] * x.ndim
      room[1] = (0, parts * part_rows - n_rows)
      x = jnp.pad(x, room).reshape(n_items, parts, part_rows, *x.shape[2:])
      return jnp.moveaxis(x, 1, 0)
    tokens = nn.scan(
        lambda module, carry, part: (carry, module._tokens_of_rows(part)),
        variable_broadcast=('params', 'lora'), split_rngs={'params': False},
        )(self, None, jax.tree.map(split, seen))[1]
    tokens = jnp.moveaxis(tokens, 0, 1)
    tokens = tokens.reshape(n_items, -1, tokens.shape[-1])
    return tokens[:, :n_rows * row_patches // self.config.vision.merge ** 2]

  def _tokens_of_rows(self, seen):
    def rows(x):  # the rows of an item are rows of their own
      return x.reshape(-1, *x.shape[2:])
    tokens = self.vision(*map(rows, seen))
    return tokens.reshape(len(seen[0]), -1, tokens.shape[-1])

  def embed(self, tokens, visual=None, visual_index=None):
    """Token embeddings [B, T, D] with visual ones where the index says.

    visual [B, M, D]; visual_index int [B, T], -1 where a token is text.
    """
    x = self.decoder.embed_tokens(tokens)
    if visual is None:
      return x
    placed = jnp.take_along_axis(
        sharding.split_rows(visual), jnp.maximum(visual_index, 0)[..., None], 1)
    return jnp.where(visual_index[..., None] < 0, x, placed.astype(x.dtype))

  def placed(self, tokens, visual, visual_index):
    """(input embeddings [B, T, D], deepstack.Visual or None).

    visual: as `visual_tokens` gives them, in any order; or None.
    """
    return self.embed(tokens, visual, visual_index), None

  def read(self, batch):
    """(input embeddings [B, T, D], deepstack.Visual or None) of a batch."""
    if 'patches' not in batch:
      return self.placed(batch['tokens'], None, None)
    return self.placed(batch['tokens'], self.visual_tokens(
        batch['patches'], batch['segments'], batch['coordinates']),
                       batch['visual_index'])

  def hidden(self, x, keys, positions=None, visual=None):
    """Causal hidden states [B, T, D].

    keys bool [B, T]: False where a row is padded, on either side. positions
    int [B, 3, T] for 'mrope'; 'sequential' counts padding too and needs none.
    visual: a deepstack.Visual, or None.
    """
    length = x.shape[1]
    if self.config.position_mode == 'mrope':
      positions = jnp.swapaxes(positions, 0, 1)
    else:
      positions = jnp.broadcast_to(jnp.arange(length), keys.shape)
    return self.decoder(
        x, positions, masks.causal(keys),
        visual=visual)

  def start(self, batch):
    """Reads prompts that are to be continued; see models.generation.

    batch: as for the call. Returns (last hidden [B, D], Cache, the position
    int [B] of the next token).
    """
    tokens, length = batch['tokens'], batch['length']
    visual = None
    if 'patches' in batch:
      visual = self.visual_tokens(
          batch['patches'], batch['segments'], batch['coordinates'])
    x = self.embed(tokens, visual, batch.get('visual_index'))
    keys = decoder_lib.length_mask(length, x.shape[1])
    positions = jnp.broadcast_to(jnp.arange(x.shape[1]), tokens.shape)
    next_position = length
    if self.config.position_mode == 'mrope':
      positions = jnp.swapaxes(batch['positions'], 0, 1)
      # A prompt ends in text, whose positions are the same on all axes.
      next_position = 1 + jnp.take_along_axis(
          positions[0], (length - 1)[:, None], 1)[:, 0]
    hidden, cache = self.decoder.prefix(
        x, positions, masks.causal(keys), keys)
    return last(hidden, keys), cache, next_position

  def step(self, cache, tokens, positions, column):
    """One more token int [B] at its position int [B]; see Decoder.step."""
    hidden, cache = self.decoder.step(
        cache, self.decoder.embed_tokens(tokens[:, None]),
        self.places(positions[:, None]), column)
    return hidden[:, 0], cache

  def suffix(self, cache, x, positions, chains):
    """Packed tokens x [P, M, D] behind P prompts; see Decoder.suffix.

    positions: int [P, M]; what follows a prompt is text, which stands at the
    same position on all axes.
    """
    return self.decoder.suffix(
        cache, x, self.places(positions), decoder_lib.Chains(*chains))

  def places(self, positions):
    """Positions of text int [B, T], on three axes where there are three."""
    if self.config.position_mode == 'mrope':
      return jnp.broadcast_to(positions, (3, *positions.shape))
    return positions

  def vocabulary_terms(self, hidden):
    return self.decoder.vocabulary_terms(hidden)

  def __call__(self, batch):
    """Unit vectors float32 [B, D] of a batch as data.qwen2_vl.reader pads it.

    batch: tokens int [B, T], right-padded, length int [B]; if there is
    anything to see patches, segments, coordinates and visual_index int [B, T];
    for 'mrope' positions int [B, 3, T].
    """
    visual = None
    if 'patches' in batch:
      visual = self.visual_tokens(
          batch['patches'], batch['segments'], batch['coordinates'])
    x = self.embed(batch['tokens'], visual, batch.get('visual_index'))
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    hidden = self.hidden(x, keys, batch.get('positions'))
    pooled = last if self.config.pooling == 'last' else mean
    return unit(pooled(hidden, keys))


def last(hidden, keys):
  """The hidden state at the last token that is not padding, [B, D]."""
  index = keys.shape[1] - 1 - jnp.argmax(keys[:, ::-1], 1)
  return jnp.take_along_axis(hidden, index[:, None, None], 1)[:, 0]


def mean(hidden, keys):
  """The mean of the hidden states that are not padding, float32 [B, D]."""
  total = jnp.sum(jnp.where(keys[..., None], hidden.astype(jnp.float32), 0), 1)
  return total / jnp.sum(keys, 1, keepdims=True)


def unit(x):
  """x / |x| in float32, along the last axis."""
  x = x.astype(jnp.float32)
  norm = jnp.sqrt(jnp.sum(jnp.square(x), -1, keepdims=True))
  return x / jnp.maximum(norm, 1e-12)


def init_batch(config):
  """The smallest batch that touches every parameter, zeros; for `init`."""
  v = config.vision
  patches = v.merge ** 2
  return {
      'tokens': jnp.zeros((1, 2), jnp.int32), 'length': jnp.full(1, 2),
      'positions': jnp.zeros((1, 3, 2), jnp.int32),
      'patches': jnp.zeros((1, 1, patches, v.patch_values), jnp.uint8),
      'segments': jnp.ones((1, 1, patches), jnp.int32),
      'coordinates': jnp.zeros((1, 1, patches, 2), jnp.int32),
      'visual_index': jnp.array([[0, -1]])}


def init(config, key, head=True):
  """Random parameters {'params': ...}, the output head too if it is untied.

  head: False leaves it out, for what embeds alone.
  """
  if not head:
    return config.module().init(key, init_batch(config))
  def whole(module, batch):
    module(batch)
    x = jnp.zeros((1, 1, config.decoder.width), config.decoder.dtype)
    return module.vocabulary_terms(x)
  return config.module().init(key, init_batch(config), method=whole)


def train_flops(config, frozen_base, batches):
  """Minimal model FLOPs of a step on batches; padding does not count.

  A frozen base needs no weight gradients, and its tower no backward pass.
  """
  seen, read = 0.0, 0.0
  for batch in batches:
    for length in batch['length']:
      read += (length * decoder_lib.flops_per_token(config.decoder)
               + decoder_lib.attention_flops(config.decoder, int(length)))
    for segments in batch.get('segments', ()):
      sizes = np.bincount(segments.ravel())[1:]
      seen += sum(n * vision_lib.flops_per_patch(config.vision, n)
                  for n in sizes)
  return seen + 2 * read if frozen_base else 3 * (seen + read)


def flops(config, tokens, segments):
  """Forward FLOPs of embedding one item of `tokens` tokens.

  segments: how many patches each slice of its images and videos has.
  """
  seen = sum(n * vision_lib.flops_per_patch(config.vision, n)
             for n in segments)
  c = config.decoder
  return (seen + tokens * decoder_lib.flops_per_token(c)
          + decoder_lib.attention_flops(c, tokens))
