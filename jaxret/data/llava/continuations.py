"""Prompts that LLaVA-NeXT continues: items as they are, or as a user's turn."""
from typing import NamedTuple

import numpy as np

from jaxret.data import continuations
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import prompts as prompts_lib
from jaxret.data.llava import questions
from jaxret.data.llava import reader as reader_lib
from jaxret.data.qwen2_vl import prompts as marks_lib

VISUAL, TEXT = questions.VISUAL, questions.TEXT


class Prompt(NamedTuple):
  """One prompt before padding: questions.Inputs, and where its tokens stand.

  positions: int32 [T].
  """
  id: str
  tokens: np.ndarray
  image: np.ndarray
  patch: np.ndarray
  images: tuple[np.ndarray, ...]
  positions: np.ndarray


class Reader:
  """Reads items as prompts, see jaxret.models.

  A prompt is BOS and the item's text as it is, each image where <|IMAGE|>
  stands, or in front of it. With `chat` it is `[INST] {text} [/INST]`, images
  on lines of their own.

  tokenizer: as data.text.load_tokenizer gives it. grid: a llava_images.Grid.
  vocab_size: of the embedding table. max_tokens: of a prompt.
  """

  def __init__(self, tokenizer, grid, vocab_size, max_tokens=4096,
               alpha='white'):
    self.grid, self.max_tokens, self.alpha = grid, max_tokens, alpha
    self.vocabulary = reader_lib.Vocabulary(tokenizer, vocab_size)
    self._encode, self.decode = tokenizer.encode, tokenizer.decode
    self.ends = (self.vocabulary.eos_id,)

  def __call__(self, item, chat=False):
    """The Prompt of an item; ValueError or MediaError that names it."""
    seen = [llava_images.read(image, item.id, self.alpha)
            for image in _images(item)]
    tokens, image, patch = self._laid_out(
        item, [one.shape[:2] for one in seen], chat)
    return Prompt(
        item.id, tokens, image, patch,
        tuple(llava_images.crops(one, self.grid) for one in seen),
        np.arange(len(tokens), dtype=np.int32))

  def masked(self, item, chat=False):
    """The same without its images' tokens, which are not read.

    No token attends to them and the others stay where they stand.
    """
    tokens, image, patch = self._laid_out(item, [
        llava_images.size_of(one, item.id) for one in _images(item)], chat)
    if tokens[-1] == VISUAL:
      raise ValueError(f'{item.id}: it ends in an image, which is masked; give '
                       'it a text behind, or leave mask_media out')
    text = tokens != VISUAL
    return Prompt(item.id, tokens[text], image[text], patch[text], (),
                  np.flatnonzero(text).astype(np.int32))

  def _laid_out(self, item, sizes, chat):
    """(tokens, image, patch) as in questions.Inputs, of images' sizes."""
    orders = [llava_images.token_order(size, self.grid) for size in sizes]
    tokens = self.vocabulary.expand(
        self.vocabulary.encode(self._written(item, len(sizes), chat), item.id),
        [len(order) for order in orders])
    if len(tokens) > self.max_tokens:
      raise ValueError(
          f'{item.id}: {len(tokens)} tokens, want at most {self.max_tokens}: '
          'shorten its text, use fewer images, or raise max_tokens')
    image, patch = (np.full(len(tokens), TEXT, np.int32) for _ in range(2))
    visual = tokens == VISUAL
    image[visual] = np.repeat(
        np.arange(len(orders)), [len(order) for order in orders])
    patch[visual] = np.concatenate(orders) if orders else []
    return tokens, image, patch

  def _written(self, item, n_images, chat):
    """The prompt as a string, <image> for each image."""
    refused = prompts_lib.CONTROL_TOKENS if chat else (prompts_lib.IMAGE,)
    body = marks_lib.marked(
        marks_lib.Content(item.text or '', {'image': n_images, 'video': 0},
                          item.order),
        item.id, refused, between='\n' if chat else '').text
    body = body.replace(marks_lib.MARKS['image'], prompts_lib.IMAGE)
    return f'[INST] {body} [/INST]' if chat else body

  def bucket(self, prompt):
    return questions.shape_of(prompt)

  def pad(self, prompts, shape):
    """Arrays of several Prompts at one Shape, for LlavaNext.start."""
    shape = questions.Shape(*shape)
    positions = np.zeros((len(prompts), shape.tokens), np.int32)
    for row, one in zip(positions, prompts):
      row[:len(one.positions)] = one.positions
    return {**questions.pad(prompts, shape, self.grid), 'positions': positions}

  def suffix(self, text, name):
    """The tokens of a suffix that are scored, int32 [L].

    Tokenizers that put a space in front of every text do not here: a suffix
    goes on where the prompt ends.
    """
    ids = continuations.suffix_tokens(
        self._continued, text, name,
        (prompts_lib.IMAGE, *marks_lib.MARKS.values()))
    return np.array(self.vocabulary.checked(ids.tolist(), name), np.int32)

  def _continued(self, text):
    start = self._encode('\n')
    whole = self._encode(f'\n{text}')
    if whole[:len(start)] != start:  # the newline is part of a longer token
      return self._encode(text)
    return whole[len(start):]


def _images(item):
  if item.video is not None:
    raise ValueError(f'{item.id}: it has a video; LLaVA-NeXT reads text and '
                     'images alone')
  if item.image is None and not item.text:
    raise ValueError(f'{item.id}: it is empty, nothing to continue; give it a '
                     'text or an image')
  if item.text is not None and not isinstance(item.text, str):
    raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; want '
                     'a string')
  several = item.image if isinstance(item.image, tuple) else (item.image,)
  return [one for one in several if one is not None]


def open_reader(config, tokenizer, max_tokens=4096, alpha='white'):
  """The Reader of a LlavaNextConfig.

  Raises ValueError if max_tokens are more than the model is right for.
  """
  config.decoder.check_length(max_tokens)
  seen = config.vision
  return Reader(
      tokenizer,
      llava_images.Grid(seen.image_px, seen.patch_px, config.pinpoints),
      config.decoder.vocab_size, max_tokens, alpha)
