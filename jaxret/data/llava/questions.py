"""Questions about queries and candidates as the padded arrays of LLaVA-NeXT.

What all prompts of a query begin with, its image above all, is laid out once:
`pad_groups`. `pad` lays out whole prompts.
"""
import functools
from typing import NamedTuple

import numpy as np

from jaxret.data.images import check_alpha
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import question_prompts as rerank_prompts
from jaxret.data.llava import reader as mm_embed_inputs
from jaxret.data.qwen2_vl import reader as inputs_lib

VISUAL = mm_embed_inputs.VISUAL
TEXT = -1


class Inputs(NamedTuple):
  """One prompt before padding.

  tokens: int32 [T], VISUAL at each visual token. image: int32 [T], which image
  a token shows, TEXT if none. patch: int32 [T], which patch of its crops, or
  llava_images.NEWLINE. images: uint8 [crops, S, S, 3] of each.
  """
  id: str
  tokens: np.ndarray
  image: np.ndarray
  patch: np.ndarray
  images: tuple[np.ndarray, ...]


class Shape(NamedTuple):
  """Static sizes: T tokens, I crops; for groups also of C suffixes each."""
  tokens: int
  crops: int
  suffixes: int = 0
  suffix_tokens: int = 0
  suffix_crops: int = 0


class Reader:
  """Makes the prompt of a query and a candidate.

  tokenizer: as data.text.load_tokenizer gives it, with <s>, </s> and <image>.
  grid: a llava_images.Grid, with pinpoints for anyres.
  vocab_size: of the embedding table, see mm_embed_inputs.Reader.
  images: how many images are kept in memory: those of a query and candidates
    that several queries share. alpha: as data.images.shown has it.
  """

  def __init__(self, tokenizer, grid, vocab_size=None, images=64,
               alpha='white'):
    self.grid, self.alpha = grid, check_alpha(alpha)
    self._vocabulary = mm_embed_inputs.Vocabulary(tokenizer, vocab_size)
    if self._vocabulary.image_id is None:
      raise ValueError('the tokenizer has no control token '
                       f'{rerank_prompts.IMAGE}: use that of the model')
    self._of_file = functools.lru_cache(maxsize=images)(self._see)

  def __call__(self, query, candidate, question):
    """Inputs of two Items; `question` as in rerank_prompts.prompt.

    Raises media.MediaError for an image that cannot be read, else ValueError;
    both name the item.
    """
    name = f'query {query.id}, candidate {candidate.id}'
    text = rerank_prompts.prompt(question, query, candidate)
    seen = [self._seen(item) for item in (query, candidate)
            if item.image is not None]
    ids = self._vocabulary.encode(text, name)
    orders = [llava_images.token_order(size, self.grid) for size, _ in seen]
    tokens = self._vocabulary.expand(ids, [len(order) for order in orders])
    image, patch = (np.full(len(tokens), TEXT, np.int32) for _ in range(2))
    visual = np.flatnonzero(tokens == VISUAL)
    image[visual] = np.repeat(
        np.arange(len(orders)), [len(order) for order in orders])
    patch[visual] = np.concatenate(orders) if orders else []
    return Inputs(name, tokens, image, patch,
                  tuple(pixels for _, pixels in seen))

  def _seen(self, item):
    """((height, width), crops) of an item's image."""
    read = self._of_file if isinstance(item.image, str) else self._see
    return read(item.image, item.id)

  def _see(self, source, name):
    image = llava_images.read(source, name, self.alpha)
    return image.shape[:2], llava_images.crops(image, self.grid)


def shape_of(inputs):
  """The bucket of a prompt."""
  return Shape(inputs_lib.bucket(len(inputs.tokens), 16), _crops(inputs.images))


def group_shape(groups):
  """The bucket that holds every group, a list of the prompts of a query."""
  cuts = [_cut(group) for group in groups]
  rest = [(one, cut) for group, cut in zip(groups, cuts) for one in group]
  return Shape(
      inputs_lib.bucket(max(cut.tokens for cut in cuts), 8),
      max(_crops(group[0].images[:cut.images])
          for group, cut in zip(groups, cuts)),
      max(map(len, groups)),
      inputs_lib.bucket(max(len(one.tokens) - cut.tokens
                            for one, cut in rest), 8),
      max(_crops(one.images[cut.images:]) for one, cut in rest))


def pad(prompts, shape, grid):
  """Arrays of several Inputs, rows in order: see models.llava.model.p_true."""
  return _padded([(one, _Cut(0, 0), _Cut(len(one.tokens), len(one.images)))
                  for one in prompts], shape.tokens, shape.crops, grid)


def pad_groups(groups, shape, grid):
  """Arrays of Q groups: see models.llava.model.p_true_of_suffixes.

  A group of fewer prompts repeats its last one. Of what prompts share, only
  as much is laid out once as the shape has room for.
  """
  cuts = [_cut(group, shape.tokens, shape.crops) for group in groups]
  shared = _padded([(group[0], _Cut(0, 0), cut)
                    for group, cut in zip(groups, cuts)],
                   shape.tokens, shape.crops, grid)
  rest = _padded(
      [(one, cut, _Cut(len(one.tokens), len(one.images)))
       for group, cut in zip(groups, cuts)
       for one in group + group[-1:] * (shape.suffixes - len(group))],
      shape.suffix_tokens, shape.suffix_crops, grid)
  return {**shared, **{
      f'suffix_{name}': array.reshape(
          len(groups), shape.suffixes, *array.shape[1:])
      for name, array in rest.items()}}


class _Cut(NamedTuple):
  """A place in a prompt: how many tokens and images lie before it."""
  tokens: int
  images: int


def _cut(group, max_tokens=None, max_crops=None):
  """Where the prompts of a group stop being alike; one token is left of each.

  Images are alike if their crops are. Not behind the maxima, where given.
  """
  first, tokens, images = group[0], len(group[0].tokens), len(group[0].images)
  for one in group[1:]:
    same = [a is b or np.array_equal(a, b)
            for a, b in zip(first.images[:images], one.images)]
    images = same.index(False) if False in same else len(same)
    size = min(tokens, len(one.tokens))
    differs = np.flatnonzero(
        (first.tokens[:size] != one.tokens[:size])
        | (first.image[:size] != one.image[:size])
        | (first.patch[:size] != one.patch[:size]))
    tokens = int(differs[0]) if len(differs) else size
  tokens = min(tokens, *(len(one.tokens) - 1 for one in group))
  if max_tokens is not None:
    tokens = min(tokens, max_tokens)
    while _crops(first.images[:images]) > max_crops:
      images -= 1
    if first.image[tokens] != TEXT:  # all of it comes behind the cut
      images = min(images, int(first.image[tokens]))
  # An image is whole on either side: its crops are seen once.
  behind = np.flatnonzero(first.image[:tokens] >= images)
  tokens = int(behind[0]) if len(behind) else tokens
  return _Cut(tokens, int(first.image[:tokens].max(initial=TEXT)) + 1)


def _crops(images):
  return sum(map(len, images))


def _padded(parts, n_tokens, n_crops, grid):
  """Arrays of the parts (Inputs, from _Cut, to _Cut) of prompts."""
  shape = (len(parts), n_tokens)
  tokens, index = np.zeros(shape, np.int32), np.full(shape, TEXT, np.int32)
  side = grid.image_px
  pixels = np.zeros((len(parts), n_crops, side, side, 3), np.uint8)
  lengths = np.zeros(len(parts), np.int32)
  for row, (one, start, end) in enumerate(parts):
    lengths[row] = length = end.tokens - start.tokens
    images = one.images[start.images:end.images]
    if length > n_tokens or _crops(images) > n_crops:
      raise ValueError(
          f'{one.id}: {length} tokens and {_crops(images)} crops, the batch '
          f'has room for {n_tokens} and {n_crops}')
    tokens[row, :length] = one.tokens[start.tokens:end.tokens]
    index[row, :length] = _visual_index(one, start, end, grid)
    if images:
      pixels[row, :_crops(images)] = np.concatenate(images)
  out = {'tokens': tokens, 'length': lengths}
  return {**out, 'pixels': pixels, 'visual_index': index} if n_crops else out


def _visual_index(one, start, end, grid):
  """Where each token is in [newline, *patches of all crops], -1 for text."""
  part = slice(start.tokens, end.tokens)
  image, patch = one.image[part], one.patch[part]
  first = np.cumsum([0, *map(len, one.images)])
  offset = (first - first[start.images])[image] * grid.side ** 2
  index = np.where(patch == llava_images.NEWLINE, 0, 1 + offset + patch)
  return np.where(image == TEXT, TEXT, index).astype(np.int32)
