"""LLaVA-NeXT: CLIP's patches in a Mistral decoder, asked a yes-no question.

Source: LLaVA-NeXT (v1.6); MM-Embed (arXiv 2411.02571) reranks with it, by the
probability of "True" as the next token of a prompt. Which patches of which
crop follow each other is computed on the host, see data.llava.images.
"""
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret import sharding
from jaxret.models import clip, masks
from jaxret.models import decoder as decoder_lib
from jaxret.models.videochat import model as vlm


@dataclasses.dataclass(frozen=True)
class LlavaNextConfig:
  """Sizes of both parts.

  vision: of the tower as it runs: one layer less than was trained, since the
  features are those of the last but one. None: a model that reads text alone.
  pinpoints: (height, width) of the canvases that the reader cuts tiles from.
  """
  decoder: decoder_lib.DecoderConfig
  vision: clip.ClipVisionConfig | None
  pinpoints: tuple[tuple[int, int], ...] = dataclasses.field(
      default=(), kw_only=True)  # MmEmbedConfig has a third part

  name = 'llava_next'

  def module(self):
    return LlavaNext(self)


class LlavaNext(nn.Module):
  """Images and tokens in, hidden states out."""
  config: LlavaNextConfig

  def setup(self):
    c = self.config
    self.decoder = decoder_lib.Decoder(c.decoder)
    if c.vision is not None:
      self.vision = clip.ClipVision(c.vision)
      self.projector = vlm.Projector(c.decoder)
      self.image_newline = self.param(
          'image_newline', nn.initializers.normal(c.decoder.width ** -0.5),
          (c.decoder.width,), c.decoder.param_dtype)

  def patches(self, pixels):
    """Features of the patches, [N, P, Dv]; the class token is left out.

    pixels: [N, S, S, 3], uint8, or float and normalised.
    """
    if jnp.issubdtype(pixels.dtype, jnp.integer):
      pixels = clip.pixel_values(pixels)
    return self.vision(pixels)[:, 1:]

  def visual_tokens(self, pixels):
    """Of I crops a row, [B, I, S, S, 3] -> [B, 1 + I * P, D].

    The first token is the newline, then come the patches, crop after crop.
    """
    rows = pixels.reshape(-1, *pixels.shape[2:])
    return self._with_newline(self.projector(self.patches(rows)), len(pixels))

  def _with_newline(self, x, n_rows):
    """Features of crops [N, P, D] -> [n_rows, 1 + N / n_rows * P, D]."""
    x = x.reshape(n_rows, -1, x.shape[-1])
    newline = jnp.broadcast_to(
        self.image_newline.astype(x.dtype), (len(x), 1, x.shape[-1]))
    return jnp.concatenate([newline, x], 1)

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

  def inputs(self, tokens, pixels=None, visual_index=None):
    """Embeddings [B, T, D] of tokens and, if there are any, images."""
    visual = None if pixels is None else self.visual_tokens(pixels)
    return self.embed(tokens, visual, visual_index)

  def hidden(self, x, keys):
    """Causal hidden states [B, T, D] of right-padded rows; keys bool [B, T]."""
    mask = masks.causal(keys)
    return self.decoder(x, _positions(x), mask)

  def last(self, batch):
    """Hidden states [B, D] of the last token of whole prompts."""
    x = self.inputs(batch['tokens'], batch.get('pixels'),
                    batch.get('visual_index'))
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    return _at_end(self.hidden(x, keys), batch['length'])

  def start(self, batch):
    """Reads prompts that are to be continued; see models.generation.

    batch: as for `last`, and positions int [B, T] where its tokens are not
    all of a prompt. Returns (last hidden [B, D], Cache, the position int [B] of
    the next token).
    """
    length = batch['length']
    x = self.inputs(batch['tokens'], batch.get('pixels'),
                    batch.get('visual_index'))
    keys = decoder_lib.length_mask(length, x.shape[1])
    positions = batch.get('positions', _positions(x))
    hidden, cache = self.decoder.prefix(
        x, positions, masks.causal(keys), keys)
    end = jnp.take_along_axis(positions, (length - 1)[:, None], 1)[:, 0]
    return _at_end(hidden, length), cache, end + 1

  def suffix(self, cache, x, positions, chains):
    """Packed tokens x [P, M, D] behind P prompts; see Decoder.suffix."""
    return self.decoder.suffix(cache, x, positions, decoder_lib.Chains(*chains))

  def step(self, cache, tokens, positions, column):
    """One more token int [B] at its position int [B]; see Decoder.step."""
    hidden, cache = self.decoder.step(
        cache, self.decoder.embed_tokens(tokens[:, None]), positions[:, None],
        column)
    return hidden[:, 0], cache

  def last_of_suffixes(self, batch):
    """Hidden states [Q, C, D] of the last token of C prompts per query.

    What the prompts of a query begin with alike is computed once; see
    `p_true_of_suffixes`.
    """
    x = self.inputs(batch['tokens'], batch.get('pixels'),
                    batch.get('visual_index'))
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    mask = masks.causal(keys)
    _, cache = self.decoder.prefix(x, _positions(x), mask, keys)

    rows, count, length = batch['suffix_tokens'].shape
    own = {name: array.reshape(rows * count, *array.shape[2:])
           for name, array in batch.items() if name.startswith('suffix_')}
    x = self.inputs(own['suffix_tokens'], own.get('suffix_pixels'),
                    own.get('suffix_visual_index'))
    place = jnp.arange(count * length)
    chains = decoder_lib.Chains(
        place.reshape(count, length), place, decoder_lib.causal(length)[0])
    hidden = self.decoder.suffix(
        cache, x.reshape(rows, count * length, -1),
        batch['length'][:, None] + place % length, chains)
    hidden = hidden.reshape(rows * count, length, -1)
    return _at_end(hidden, own['suffix_length']).reshape(rows, count, -1)

  def last_of_packed(self, batch):
    """As `last_of_suffixes`, all of a query in one sequence: for training.

    It computes the same; its gradient compiles several times as fast. Wants
    images on both sides.
    """
    shared, own = batch['pixels'], batch['suffix_pixels']
    crops = [x.reshape(-1, *x.shape[-3:]) for x in (shared, own)]
    x = self.projector(self.patches(jnp.concatenate(crops)))
    rows, count, length = batch['suffix_tokens'].shape
    start = self.embed(
        batch['tokens'], self._with_newline(x[:len(crops[0])], rows),
        batch['visual_index'])
    rest = self.embed(
        batch['suffix_tokens'].reshape(-1, length),
        self._with_newline(x[len(crops[0]):], rows * count),
        batch['suffix_visual_index'].reshape(-1, length))
    x = jnp.concatenate([start, rest.reshape(rows, -1, rest.shape[-1])], 1)
    n_shared, n_rest = start.shape[1], count * length
    place = jnp.arange(n_rest)
    positions = jnp.concatenate([
        _positions(start), batch['length'][:, None] + place % length], 1)
    chain = jnp.concatenate([jnp.full(n_shared, -1), place // length])
    mask = (chain == chain[:, None]) | (chain < 0)
    keys = jnp.concatenate([
        decoder_lib.length_mask(batch['length'], n_shared),
        jnp.ones((rows, n_rest), bool)], 1)
    mask = decoder_lib.causal(x.shape[1]) & mask & keys[:, None]
    hidden = self.decoder(
        x, positions, mask, n_shared + length)[:, n_shared:]
    return _at_end(hidden.reshape(rows * count, length, -1),
                   batch['suffix_length'].reshape(-1)).reshape(rows, count, -1)

  def vocabulary_terms(self, hidden):
    return self.decoder.vocabulary_terms(hidden)


def _positions(x):
  return jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])


def _at_end(hidden, lengths):
  index = (lengths - 1)[:, None, None]
  return jnp.take_along_axis(hidden, index, 1)[:, 0]


def p_true(config, params, batch, words):
  """P(True) of whole prompts, float32 [B], from the two words' logits alone.

  Args:
    config: a LlavaNextConfig. params: {'params': ..., 'lora': ... if any}.
    batch: tokens int [B, T], right-padded, length int [B]; with images pixels
      [B, I, S, S, 3] and visual_index int [B, T], see data.llava.questions.
    words: int [2], the tokens that stand for True and False.
  """
  return _p_true(config, params, batch, words, LlavaNext.last)


def p_true_of_suffixes(config, params, batch, words):
  """The same for C prompts of each query, float32 [Q, C].

  batch: as for `p_true`, of what the prompts of a query share, which may not
  be all of a prompt; suffix_tokens int [Q, C, L], suffix_length int [Q, C] of
  the rest, and suffix_pixels [Q, C, I, S, S, 3] and suffix_visual_index
  [Q, C, L] of its images.
  """
  return _p_true(config, params, batch, words, LlavaNext.last_of_suffixes)


def log_odds_of_suffixes(config, params, batch, words):
  """log P(True) - log P(False) of the same, float32 [Q, C]."""
  both = _logits(config, params, batch, words, LlavaNext.last_of_suffixes)
  return both[..., 0] - both[..., 1]


def _p_true(config, params, batch, words, last):
  return jax.nn.softmax(_logits(config, params, batch, words, last), -1)[..., 0]


def _logits(config, params, batch, words, last, key=None):
  def logits(module, batch):
    return sum(
        jnp.matmul(left, right[:, words], preferred_element_type=jnp.float32)
        for left, right in module.vocabulary_terms(last(module, batch)))
  rngs = None if key is None else {'dropout': key}
  return config.module().apply(params, batch, method=logits, rngs=rngs)


def log_odds(config, params, batch, words, key=None):
  """log P(True) - log P(False), float32 [Q, C], to train a reranker with.

  Arguments as for `p_true_of_suffixes`. Without a key there is no dropout.
  """
  both = _logits(config, params, batch, words, LlavaNext.last_of_packed, key)
  return both[..., 0] - both[..., 1]


def init_batch(config):
  """The smallest batch that touches every parameter; for `init`."""
  tokens = jnp.zeros((1, 2), jnp.int32)
  batch = {'tokens': tokens, 'length': jnp.full(1, 2)}
  if config.vision is None:
    return batch
  side = config.vision.image_px
  return {**batch, 'pixels': jnp.zeros((1, 1, side, side, 3), jnp.uint8),
          'visual_index': jnp.array([[0, -1]])}


def init(config, key):
  """Random parameters {'params': ...}, the output head too."""
  def whole(module, batch):
    return module.vocabulary_terms(module.last(batch))
  return config.module().init(key, init_batch(config), method=whole)


def image_flops(config):
  """Forward FLOPs of one crop, projector too."""
  e, patches = config.vision.encoder, config.vision.grid ** 2
  layer = 2 * e.width * (4 * e.width + 2 * e.mlp_width)
  layer += 4 * e.width * config.vision.n_tokens
  pixels = 3 * config.vision.patch_px ** 2
  width = config.decoder.width
  return (config.vision.n_tokens * e.layers * layer
          + 2 * patches * (pixels * e.width + width * (e.width + width)))
