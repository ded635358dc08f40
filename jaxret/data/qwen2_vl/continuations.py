"""Prompts that Qwen2-VL continues: items as they are, or as a user's turn."""
from typing import NamedTuple

import numpy as np

from jaxret.data import continuations
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts as prompts_lib
from jaxret.data.qwen2_vl import reader as reader_lib

# Images as Qwen2VLImageProcessor has them by default: resized once, to 4 to
# 1280 tokens.
RESOLUTION = qwen2_vl.Resolution(
    released=False, processor=(4 * 28 ** 2, 1280 * 28 ** 2))


class Prompt(NamedTuple):
  """One prompt before padding: reader.Inputs, and where its tokens stand.

  positions: int32 [3, T], on the axes time, row and column.
  """
  id: str
  tokens: np.ndarray
  kinds: tuple[str, ...]
  grids: tuple[tuple[int, int, int], ...]
  patches: tuple[np.ndarray, ...]
  positions: np.ndarray


class Reader(reader_lib.Reader):
  """Reads items as prompts, see jaxret.models.

  A prompt is the item's text as it is, each medium where a mark stands, or in
  front of it. Its text may hold control tokens, a template of the caller's own
  for example; not with `chat`, which writes that of the model.
  """

  def __init__(self, tokenizer, resolution, max_tokens=4096, alpha='white',
               layout=visual_tokens.QWEN2_VL, cache_bytes=0):
    super().__init__(tokenizer, resolution, max_tokens, trim_text=False,
                     cache_bytes=cache_bytes, alpha=alpha, layout=layout)
    self.decode = tokenizer.decode
    self.ends = continuations.ends(tokenizer.encode)

  def __call__(self, item, chat=False):
    """The Prompt of an item; ValueError or MediaError that names it."""
    kinds, grids, patches, sampled = self.see(item)
    tokens = self.tokens(item, kinds, grids, chat)
    return Prompt(item.id, tokens, kinds, grids, patches,
                  self._positions(tokens, kinds, grids, sampled))

  def outline(self, item, chat=False):
    """The same from headers alone: its patches are not read."""
    kinds, grids, sampled = self.grids(item)
    tokens = self.tokens(item, kinds, grids, chat)
    return Prompt(item.id, tokens, kinds, grids, (),
                  self._positions(tokens, kinds, grids, sampled))

  def masked(self, item, chat=False):
    """The same without the placeholders of its media, which are not read.

    No token attends to them and the others stay where they stand: as if the
    keys of all that is seen were masked.
    """
    return self.unseen(self.outline(item, chat))

  def unseen(self, prompt):
    """A Prompt, read or not, as `masked` has it."""
    return unseen(prompt, self.special)

  def _positions(self, tokens, kinds, grids, sampled):
    return visual_tokens.mrope_positions(
        tokens, kinds, grids, self.special, self.layout.merge,
        self.layout.steps(sampled))

  def tokens(self, item, kinds, grids, chat=False):
    """The tokens of a prompt whose media have these grids, int32 [T]."""
    content = prompts_lib.Content(
        item.text or '', {kind: kinds.count(kind) for kind in reader_lib.KINDS},
        item.order)
    refused = (prompts_lib.CONTROL_TOKENS if chat
               else tuple(prompts_lib.PADS.values()))
    body = prompts_lib.marked(content, item.id, refused, between='').text
    for kind, mark in prompts_lib.MARKS.items():
      body = body.replace(mark, prompts_lib.seen(kind))
    ids = self.expanded(prompts_lib.chat(body) if chat else body, kinds, grids)
    if not len(ids):
      raise ValueError(f'{item.id}: it is empty, nothing to continue; give it '
                       'a text or a medium')
    if len(ids) > self.max_tokens:
      raise ValueError(
          f'{item.id}: {len(ids)} tokens, want at most {self.max_tokens}: '
          'shorten its text, use fewer frames or smaller images, or raise '
          'max_tokens')
    return ids

  def pad(self, prompts, shape):
    """Arrays of several Prompts at one reader.Shape, for Qwen2Vl.start."""
    return pad(prompts, shape, self.special, self.layout)

  def suffix(self, text, name):
    """The tokens of a suffix that are scored, int32 [L]."""
    return continuations.suffix_tokens(
        self._encode, text, name,
        (*prompts_lib.PADS.values(), *prompts_lib.MARKS.values()))


def unseen(prompt, special):
  """A Prompt without its placeholders; special: as for `pad`."""
  text = ~np.isin(prompt.tokens, list(special.values()))
  return Prompt(prompt.id, prompt.tokens[text], (), (), (),
                prompt.positions[:, text])


def pad(prompts, shape, special, layout=visual_tokens.QWEN2_VL):
  """Arrays of several Prompts at one reader.Shape, for Qwen2Vl.start.

  special: {'image': id, 'video': id}, as a Reader has it. layout: the
  visual_tokens.Layout of the model.
  """
  return with_positions(prompts, reader_lib.pad(
      prompts, reader_lib.Shape(*shape), special, layout=layout))


def with_positions(prompts, arrays):
  """The padded arrays of several Prompts, and their positions."""
  positions = np.zeros((len(prompts), 3, arrays['tokens'].shape[1]), np.int32)
  for row, one in zip(positions, prompts):
    row[:, :one.positions.shape[1]] = one.positions
  return {**arrays, 'positions': positions}


def open_reader(config, tokenizer, max_tokens=4096, resolution=None,
                alpha='white', cache_bytes=0):
  """The Reader of a Qwen2VlConfig; resolution: default RESOLUTION.

  cache_bytes: patches of files that are kept in memory, for training.
  Raises ValueError as data.qwen2_vl.reader.check does.
  """
  reader_lib.check(config, max_tokens)
  return Reader(tokenizer, resolution or RESOLUTION, max_tokens, alpha,
                reader_lib.layout_of(config), cache_bytes)
