"""LECCR: visual tokens and the semantic slots of an MLLM's description.

Source: arXiv 2409.19961 and the authors' code (model_retrieval_caption.py,
video_model_retrieval_caption.py, attention.py), checked against golden data.
"""
import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.losses.leccr import unit
from jaxret.models import bert, clip, encoder

QUERY_INITS = {'zeros': nn.initializers.zeros,
               'normal': nn.initializers.normal(0.02)}
HEADS = 8  # of every attention of the slots, in all the authors' models


@dataclasses.dataclass(frozen=True)
class LeccrConfig:
  """Sizes and numerics.

  text: the one encoder of captions and descriptions. vision: CLIP's tower, or
  None where frame features are given. visual_width V: of CLIP's projected
  tokens, or of the frame features. embedding_width E: where both sides meet.
  slots n, 0 for the model without descriptions. reader_layers: slots reading
  the description; interaction_layers: slots and visual tokens reading each
  other; frame_layers: frames reading each other. query_init: 'normal', or
  'zeros' as the authors, whose slots are all equal until dropout and the first
  of tied maxima tell them apart.
  """
  text: bert.BertConfig
  vision: clip.ClipVisionConfig | None
  visual_width: int
  embedding_width: int
  slots: int
  reader_layers: int
  interaction_layers: int
  frame_layers: int = 0
  query_init: str = 'normal'
  temperature: float = 0.07
  dropout: float = 0.1
  dtype: Any = 'float32'
  param_dtype: Any = 'float32'
  attention: str = 'xla'

  def __post_init__(self):
    if self.query_init not in QUERY_INITS:
      raise ValueError(f'LECCR: query_init {self.query_init!r} is not known; '
                       f'want one of {", ".join(QUERY_INITS)}')
    if (self.vision is None) != (self.frame_layers > 0):
      raise ValueError(
          f'LECCR: got {self.frame_layers} frame layers '
          f'{"without" if self.vision is None else "with"} a vision tower; '
          'want frame layers or a tower, one of them')
    if self.visual_width % HEADS:
      raise ValueError(
          f'LECCR: visual_width {self.visual_width} is no multiple of the '
          f'{HEADS} heads of the slots: change the width')

  def block(self, layers):
    """Sizes of a stack of the slots' layers, which do not widen."""
    return encoder.EncoderConfig(
        self.visual_width, self.visual_width, layers, HEADS,
        dropout=self.dropout, dtype=self.dtype, param_dtype=self.param_dtype,
        attention=self.attention)


class Interaction(NamedTuple):
  """visual [B, T, V] and slots [B, n, V] after reading each other; raw_slots
  [B, n, V] before."""
  visual: jax.Array
  slots: jax.Array
  raw_slots: jax.Array


class Features(NamedTuple):
  """What the losses compare; all but the unit vectors are as projected.

  visual, source, target: [B, E], unit vectors. temperature: scalar, divides
  logits. slots: [B, n, E]. raw_slots: [B, n, V]. matched_slots,
  matched_visual: [B, n or T, V], of the loss between description and vision.
  """
  visual: jax.Array
  source: jax.Array
  target: jax.Array
  temperature: jax.Array
  slots: jax.Array | None = None
  raw_slots: jax.Array | None = None
  matched_slots: jax.Array | None = None
  matched_visual: jax.Array | None = None


class Stack(nn.Module):
  """The slots' layers; memory None = x itself, layer by layer."""
  config: encoder.EncoderConfig

  @nn.compact
  def __call__(self, x, memory=None, mask=None):
    """x [B, T, V], memory [B, S, V], mask bool [B, S] or None = all."""
    mask = jnp.ones((1, 1, 1), bool) if mask is None else mask[:, None]
    layers = encoder.stack(encoder.SlotLayer, self.config, 'layers', 2)
    return layers(x, memory, mask)[0]


class Heads(nn.Module):
  """Every linear map between the spaces of text, vision and embeddings."""
  config: LeccrConfig

  def setup(self):
    c = self.config
    dense = c.block(1).dense
    self.text = dense(c.embedding_width)
    self.vision = dense(c.embedding_width)
    if c.slots:
      self.slot = dense(c.embedding_width)
      self.description = dense(c.visual_width)
      self.matched_slot = dense(c.visual_width)
      self.matched_vision = dense(c.visual_width)

  def __call__(self, name, x):
    return getattr(self, name)(x)


class Leccr(nn.Module):
  config: LeccrConfig

  def setup(self):
    c = self.config
    self.text_encoder = bert.Bert(c.text)
    if c.vision is not None:
      self.vision = clip.ClipVision(c.vision)
      self.vision_head = clip.ClipVisionHead(c.vision.encoder, c.visual_width)
    else:
      self.frames = Stack(c.block(c.frame_layers))
    if c.slots:
      self.queries = self.param(
          'queries', QUERY_INITS[c.query_init], (c.slots, c.visual_width),
          c.param_dtype)
      self.description_to_slots = Stack(c.block(c.reader_layers))
      self.slots_to_vision = Stack(c.block(c.interaction_layers))
      self.vision_to_slots = Stack(c.block(c.interaction_layers))
    self.heads = Heads(c)
    self.temperature = self.param(
        'temperature', nn.initializers.constant(c.temperature), ())

  def visual_tokens(self, visual, mask=None):
    """uint8 images [B, H, W, 3], or frame features [B, F, V] with their mask.

    Returns [B, T, V]; an image's first token is the class token.
    """
    if self.config.vision is None:
      return self.frames(visual.astype(self.config.dtype), mask=mask)
    pixels = visual
    if jnp.issubdtype(visual.dtype, jnp.integer):
      pixels = clip.pixel_values(visual)
    return self.vision_head(self.vision(pixels))

  def interact(self, visual, visual_mask, description, description_mask):
    """Slots read the description; slots and visual tokens read each other.

    visual: [B, T, V]; description: [B, S, text width], hidden states; masks
    bool [B, T] or None, [B, S].
    """
    queries = jnp.broadcast_to(
        self.queries.astype(self.config.dtype),
        (len(visual), *self.queries.shape))
    raw_slots = self.description_to_slots(
        queries, self.heads('description', description), description_mask)
    # Both read what was there before, not each other's result.
    return Interaction(
        self.slots_to_vision(visual, raw_slots),
        self.vision_to_slots(raw_slots, visual, visual_mask), raw_slots)

  def project_visual(self, visual, mask=None):
    """[B, T, V] -> unit vectors [B, E]: class token, or mean of the frames."""
    if mask is None:
      pooled = visual[:, 0]
    else:
      kept = mask[..., None]
      pooled = jnp.sum(visual * kept, 1) / jnp.sum(kept, 1)
    return unit(self.heads('vision', pooled).astype(jnp.float32))

  def project_text(self, hidden):
    """[B, T, text width] -> unit vectors [B, E] of the first token."""
    return unit(self.heads('text', hidden[:, 0]).astype(jnp.float32))

  def project_slots(self, slots):
    """[B, n, V] -> [B, n, E], not normalised."""
    return self.heads('slot', slots).astype(jnp.float32)

  def embed_texts(self, tokens, mask):
    """int [B, T], bool [B, T] -> unit vectors [B, E]."""
    return self.project_text(self.text_encoder(tokens, mask))

  def embed_gallery(self, visual, visual_mask, tokens=None, mask=None):
    """What is searched: (unit vectors [B, E], slots [B, n, E] or None).

    visual, visual_mask: see `visual_tokens`; tokens, mask: the descriptions,
    for a model with slots.
    """
    visual = self.visual_tokens(visual, visual_mask)
    if not self.config.slots:
      return self.project_visual(visual, visual_mask), None
    found = self.interact(
        visual, visual_mask, self.text_encoder(tokens, mask), mask)
    return (self.project_visual(found.visual, visual_mask),
            self.project_slots(found.slots))

  def features(self, visual, visual_mask, source, target, description=None,
               description_mask=None):
    """Features from visual tokens [B, T, V] and the texts' hidden states."""
    texts = self.project_text(source), self.project_text(target)
    if not self.config.slots:
      return Features(self.project_visual(visual, visual_mask), *texts,
                      self.temperature)
    # As the authors: nothing is learned from a description's encoding.
    description = jax.lax.stop_gradient(description)
    found = self.interact(visual, visual_mask, description, description_mask)
    return Features(
        self.project_visual(found.visual, visual_mask), *texts,
        self.temperature, self.project_slots(found.slots),
        found.raw_slots.astype(jnp.float32),
        self.heads('matched_slot', found.raw_slots).astype(jnp.float32),
        self.heads('matched_vision', visual).astype(jnp.float32))

  def __call__(self, visual, visual_mask, captions, caption_mask,
               descriptions=None, description_mask=None):
    """Features of a batch.

    visual, visual_mask: see `visual_tokens`. captions: int [2 B, T], English
    ones, then those of the target language. descriptions: int [B, S], for a
    model with slots.
    """
    tokens = self.visual_tokens(visual, visual_mask)
    source, target = jnp.split(self.text_encoder(captions, caption_mask), 2)
    if self.config.slots:
      descriptions = self.text_encoder(descriptions, description_mask)
    return self.features(tokens, visual_mask, source, target, descriptions,
                         description_mask)


def share_first_layers(params):
  """The layers of each stack start as copies of its first, as the authors'."""
  stacks = ('frames', 'description_to_slots', 'slots_to_vision',
            'vision_to_slots')
  copy = functools.partial(
      jax.tree.map, lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape))
  return {name: copy(tree) if name in stacks else tree
          for name, tree in params.items()}


def train_flops(config, batch):
  """Minimal model FLOPs of forward and backward on one batch."""
  n = len(batch['visual_index'])
  def stack(encoder_config, rows, keys):
    """Forward FLOPs of `rows` tokens that see `keys` each."""
    c = encoder_config
    return 2 * rows * c.layers * c.width * (
        4 * c.width + 2 * c.mlp_width + 2 * keys)
  text = config.text.encoder
  captions = batch['source'].shape[1]
  total = 3 * stack(text, 2 * n * captions, captions)
  if config.vision is None:
    tokens = batch['visual'].shape[1]
    total += 3 * stack(config.block(config.frame_layers), n * tokens, tokens)
  else:
    tokens = config.vision.n_tokens
    total += 3 * stack(config.vision.encoder, n * tokens, tokens)
  if config.slots:
    words = batch['description'].shape[1]
    total += stack(text, n * words, words)  # nothing is learned from these
    interaction = config.block(config.interaction_layers)
    total += 3 * (
        stack(config.block(config.reader_layers), n * config.slots, words)
        + stack(interaction, n * tokens, config.slots)
        + stack(interaction, n * config.slots, tokens))
  return total
