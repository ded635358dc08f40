"""Items of text and images as the padded arrays of MM-Embed.

`Reader` turns an item into tokens and pixels; `pad` lays several of them out
at one `Shape`, always padded on the right (the authors' code pads on the left
where all rows of a batch are equally long, and then masks the wrong tokens).
"""
import functools
import threading
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxret.data import images
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.qwen2_vl import reader as inputs_lib

VISUAL = -1  # placeholder, one for each visual token


class Inputs(NamedTuple):
  """One item before padding.

  tokens: int32 [T], VISUAL at each visual token. pool_start: how many tokens
  at the start are not pooled. image: uint8 [S, S, 3], or None.
  """
  id: str
  tokens: np.ndarray
  pool_start: int
  image: np.ndarray | None


class Shape(NamedTuple):
  """Static sizes of padded items: T tokens, the side of images, 0 = none."""
  tokens: int
  image_px: int = 0


def shape_of(inputs):
  """The bucket of an item."""
  return _bucket(len(inputs.tokens), 0 if inputs.image is None
                 else len(inputs.image))


def common_shape(shapes):
  """The smallest Shape that holds all of `shapes`."""
  return Shape(*(max(sizes) for sizes in zip(*shapes)))


def _bucket(n_tokens, image_px):
  return Shape(inputs_lib.bucket(n_tokens, 16), image_px)


class Reader:
  """Reads items: an image squashed to a square, and the prompt.

  tokenizer: as data.text.load_tokenizer gives it, with <s>, </s> and, to read
    images, <image> in its vocabulary.
  image_px, patch_px: of the vision tower.
  max_tokens: of a prompt, BOS and EOS counted, the image as one (spec §1).
  vocab_size: of the embedding table; <image> may lie behind it, and <pad>
    reads as EOS then. None: that of the tokenizer.
  style: how instruction tokens are counted, see mm_embed_prompts.pool_start.
  cache_bytes: pixels of files that are kept in memory, for training.
  trim_text: what is done with a longer prompt. None cuts its end, as the
    authors do and a run does; True says so besides; False refuses it.
  alpha: of transparent pixels, 'white' or 'released', as images.shown has it.
  Every method names the item in its errors: MediaError for an image that
  cannot be read, else ValueError.
  """

  def __init__(self, tokenizer, image_px, patch_px, max_tokens=512,
               vocab_size=None, style='mm_embed', cache_bytes=0,
               trim_text=None, alpha='white'):
    if style not in mm_embed_prompts.STYLES:
      raise ValueError(f'style {style!r} is unknown; want one of '
                       f'{", ".join(mm_embed_prompts.STYLES)}')
    self.grid = llava_images.Grid(image_px, patch_px)
    self.max_tokens, self.style = max_tokens, style
    self.trim_text, self.alpha = trim_text, images.check_alpha(alpha)
    self.vocabulary = Vocabulary(tokenizer, vocab_size)
    self._cache, self._free_bytes = {}, cache_bytes
    self._lock = threading.Lock()
    # Evaluation reads the same instruction for every query of a task.
    self._pool_start = functools.lru_cache(maxsize=1024)(functools.partial(
        mm_embed_prompts.pool_start, tokenizer.encode, style=style))

  @property
  def n_visual(self):
    """Visual tokens of an image: its patches and the newline."""
    return self.grid.side ** 2 + 1

  def __call__(self, item, instruction=None, is_query=False):
    """Inputs of an item that holds a text, an image or both."""
    tokens, start = self.tokens(item, instruction, is_query)
    image = None if item.image is None else self._see(item.id, item.image)
    return Inputs(item.id, tokens, start, image)

  def shape(self, item, instruction=None, is_query=False):
    """The bucket of an item; its image is not opened."""
    tokens, _ = self.tokens(item, instruction, is_query)
    return _bucket(len(tokens), 0 if item.image is None
                   else self.grid.image_px)

  def check(self, item):
    """Raises for what the text and the header of the image show."""
    self.tokens(item)
    if item.image is not None:
      llava_images.check(item.image, item.id)

  def tokens(self, item, instruction=None, is_query=False):
    """(tokens int32 [T], pool_start) of an item."""
    _check(item)
    mm_embed_prompts.check_text(item.text, item.id)
    mm_embed_prompts.check_text(instruction, f'{item.id}, its instruction')
    has_image, words = item.image is not None, self.vocabulary
    if has_image and words.image_id is None:
      raise ValueError(f'{item.id}: it has an image, the tokenizer no '
                       f'{mm_embed_prompts.IMAGE}: use a model that reads '
                       'images')
    whole = words.encode(mm_embed_prompts.prompt(
        item.text, has_image, is_query, instruction), item.id)
    n_tokens = len(whole) + 1  # and EOS
    if n_tokens > self.max_tokens and self.trim_text is False:
      raise ValueError(
          f'{item.id}: {n_tokens} tokens, want at most {self.max_tokens}: '
          + ('shorten the instruction, or raise max_tokens' if not item.text
             else 'shorten its text, or let it be trimmed (trim_text)'))
    ids = words.cut(whole, self.max_tokens)
    start = self._pool_start(instruction) if is_query else 0
    if start >= len(ids) - 1 or has_image and words.image_id not in ids:
      raise ValueError(
          f'{item.id}: nothing is left of it behind the instruction in '
          f'{self.max_tokens} tokens: shorten the instruction or raise '
          'max_tokens')
    if n_tokens > self.max_tokens and self.trim_text:
      logging.warning('%s: %d tokens, the end of its text is cut to keep %d',
                      item.id, n_tokens, self.max_tokens)
    return words.expand(ids, [self.n_visual] * has_image), start

  def _see(self, name, source):
    """An image at its final size; read once as far as the cache reaches."""
    if isinstance(source, str) and source in self._cache:
      return self._cache[source]
    image = llava_images.squash(
        llava_images.read(source, name, self.alpha), self.grid.image_px)
    with self._lock:
      if isinstance(source, str) and image.nbytes <= self._free_bytes:
        self._free_bytes -= image.nbytes
        self._cache[source] = image
    return image


class PromptReader(Reader):
  """The same as a run wants it: a prompt, perhaps '', makes a query."""

  def __call__(self, item, prompt=None):
    return super().__call__(item, prompt or None, prompt is not None)

  def bucket(self, inputs):
    return tuple(shape_of(inputs))

  def pad(self, inputs, shape):
    return pad(inputs, Shape(*shape))


def open_reader(config, tokenizer, max_tokens=2048, cache_bytes=0,
                trim_text=None, alpha='white'):
  """The PromptReader of a MmEmbedConfig; NV-Embed-v1 sees no images.

  Raises ValueError if max_tokens are more than the model is right for.
  """
  config.decoder.check_length(max_tokens)
  seen, style = config.vision, 'mm_embed' if config.vision else 'nv_embed_v1'
  sides = (seen.image_px, seen.patch_px) if seen else (14, 14)
  return PromptReader(tokenizer, *sides, max_tokens, config.decoder.vocab_size,
                      style, cache_bytes, trim_text, alpha)


class Vocabulary:
  """Token ids of a prompt, and what becomes of those outside the table.

  Of LLaVA-NeXT's tokenizer <image> and <pad> lie behind the embedding table.
  """

  def __init__(self, tokenizer, vocab_size=None):
    self._encode = tokenizer.encode
    self._size = vocab_size or tokenizer.vocab_size
    self._pad_id = tokenizer.pad_id
    self.bos_id = self._one(mm_embed_prompts.BOS)
    self.eos_id = self._one(mm_embed_prompts.EOS)
    # NV-Embed-v1, which reads text alone, has none.
    self.image_id = self._one(mm_embed_prompts.IMAGE, optional=True)

  def _one(self, token, optional=False):
    ids = self._encode(token)
    if len(ids) != 1:
      if optional:
        return None
      raise ValueError(f'the tokenizer has no control token {token}: use that '
                       'of the model, or train one with it')
    return ids[0]

  def encode(self, text, name):
    """BOS and the ids of a text; <pad> in it reads as EOS, as in the authors'.

    Raises ValueError for another id outside the table.
    """
    return self.checked([self.bos_id, *self._encode(text)], name)

  def checked(self, ids, name):
    """The ids of a text as the table has them; see `encode`."""
    ids = [self.eos_id if i == self._pad_id else i for i in ids]
    outside = [i for i in ids if i >= self._size and i != self.image_id]
    if outside:
      raise ValueError(
          f'{name}: token {outside[0]} lies outside the table of {self._size} '
          'embeddings; use the tokenizer of the model')
    return ids

  def cut(self, ids, max_tokens):
    """ids and EOS, `max_tokens` together: a longer row is cut before EOS."""
    return [*ids[:max_tokens - 1], self.eos_id]

  def expand(self, ids, counts):
    """int32 [T]: each <image> as many VISUAL as `counts` says, in order."""
    ids = np.array(ids, np.int32)
    lengths, is_image = np.ones(len(ids), np.int64), ids == self.image_id
    lengths[is_image] = counts
    return np.repeat(np.where(is_image, VISUAL, ids), lengths)


def pad(inputs, shape):
  """Arrays of several Inputs at one Shape, rows in order, for llava.mm_embed.

  Raises ValueError naming the item that does not fit.
  """
  out = {'tokens': np.zeros((len(inputs), shape.tokens), np.int32),
         'length': np.array([len(one.tokens) for one in inputs], np.int32),
         'pool_start': np.array([one.pool_start for one in inputs], np.int32)}
  for one, row in zip(inputs, out['tokens']):
    if len(one.tokens) > shape.tokens:
      raise ValueError(f'{one.id}: {len(one.tokens)} tokens, the batch has '
                       f'room for {shape.tokens}')
    row[:len(one.tokens)] = one.tokens
  side = shape.image_px
  pixels = np.zeros((len(inputs), 1, side, side, 3), np.uint8)
  for one, place in zip(inputs, pixels[:, 0]):
    if one.image is not None:
      if one.image.shape != place.shape:
        raise ValueError(f'{one.id}: its image is {one.image.shape}, the batch '
                         f'has room for {place.shape}')
      place[:] = one.image
  if not side:
    return out
  return {**out, 'pixels': pixels, 'visual_index': visual_index(out['tokens'])}


def visual_index(tokens):
  """Of rows with one image: where each token is in [newline, *patches].

  tokens int32 [B, T] -> int32 [B, T], -1 for text. The newline comes last in a
  row and first among what models.llava.model makes of an image.
  """
  visual = tokens == VISUAL
  index = np.cumsum(visual, 1) % np.maximum(visual.sum(1, keepdims=True), 1)
  return np.where(visual, index, -1).astype(np.int32)


def _check(item):
  if item.video is not None:
    raise ValueError(f'{item.id}: it has a video; MM-Embed reads text and '
                     'images alone')
  if item.text is None and item.image is None:
    raise ValueError(f'{item.id}: it has no text and no image; give it one')
  if item.text is not None and not isinstance(item.text, str):
    raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; '
                     'want a string')
