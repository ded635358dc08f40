"""Prompts that Qwen3-VL continues: items as they are, or as a user's turn."""

from jaxret.data import continuations
from jaxret.data.qwen2_vl import continuations as qwen2_vl
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import prompts as marks_lib
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pixels, prompts, reader


class Reader(reader.Reader):
  """Reads items as prompts, see jaxret.models.

  A prompt is the item's text as it is, each medium where a mark stands, or in
  front of it, images first. Its text may hold control tokens, a template of
  the caller's own for example; not with `chat`, which writes that of the
  model. A video's frames each have their time before them.
  """

  def __init__(self, tokenizer, resolution, max_tokens=4096, cache_bytes=0):
    super().__init__(tokenizer, resolution, max_tokens, cache_bytes=cache_bytes)
    self.decode = tokenizer.decode
    self.ends = continuations.ends(tokenizer.encode)

  def __call__(self, item, chat=False):
    """The qwen2_vl.Prompt of an item; errors name it."""
    kinds, grids, patches, sampled = self.see(item)
    tokens = self.tokens(item, kinds, grids, sampled, chat)
    kinds, grids = reader.sliced(kinds, grids)
    return qwen2_vl.Prompt(item.id, tokens, kinds, grids, patches,
                           self._positions(tokens, kinds, grids))

  def outline(self, item, chat=False):
    """The same from headers alone: its patches are not read."""
    kinds, grids, sampled = self.grids(item)
    tokens = self.tokens(item, kinds, grids, sampled, chat)
    kinds, grids = reader.sliced(kinds, grids)
    return qwen2_vl.Prompt(item.id, tokens, kinds, grids, (),
                           self._positions(tokens, kinds, grids))

  def masked(self, item, chat=False):
    """The same without the placeholders of its media, which are not read.

    No token attends to them and the others stay where they stand: as if the
    keys of all that is seen were masked. The times of frames are text.
    """
    return self.unseen(self.outline(item, chat))

  def unseen(self, prompt):
    """A Prompt, read or not, as `masked` has it."""
    return qwen2_vl.unseen(prompt, self.special)

  def _positions(self, tokens, kinds, grids):
    return visual_tokens.mrope_positions(tokens, kinds, grids, self.special)

  def tokens(self, item, kinds, grids, sampled, chat=False):
    """The tokens of a prompt whose media have these grids, int32 [T]."""
    said = marks_lib.Content(
        item.text or '', {kind: kinds.count(kind) for kind in marks_lib.MARKS},
        item.order)
    refused = (prompts.CONTROL_TOKENS if chat
               else tuple(prompts.PADS.values()))
    body = marks_lib.marked(said, item.id, refused, between='').text
    for kind, shown in zip(kinds, self.marks(sampled)):
      body = body.replace(marks_lib.MARKS[kind], shown, 1)
    ids = self.expanded(prompts.prompt(body) if chat else body,
                        *reader.sliced(kinds, grids))
    if not len(ids):
      raise ValueError(f'{item.id}: it is empty, nothing to continue; give it '
                       'a text or a medium')
    if len(ids) > self.max_tokens:
      raise ValueError(
          f'{item.id}: {len(ids)} tokens, want at most {self.max_tokens}: '
          'shorten its text, use fewer frames or smaller images, or raise '
          'max_tokens')
    return ids

  def bucket(self, prompts):
    """The reader.Shape that holds a Prompt, with little room to spare."""
    return inputs_lib.shape_of(len(prompts.tokens), prompts.grids)

  def pad(self, prompts, shape):
    """Arrays of several Prompts at one reader.Shape, for Qwen3Vl.start."""
    return qwen2_vl.with_positions(prompts, reader.pad(
        prompts, inputs_lib.Shape(*shape), self.special, mrope=False))

  def suffix(self, text, name):
    """The tokens of a suffix that are scored, int32 [L]."""
    return continuations.suffix_tokens(
        self._encode, text, name,
        (*prompts.PADS.values(), *marks_lib.MARKS.values()))


def open_reader(config, tokenizer, max_tokens=4096, resolution=None,
                cache_bytes=0):
  """The Reader of a Qwen3VlConfig; resolution: default as its files have it.

  cache_bytes: patches of files that are kept in memory, for training.
  Raises ValueError as reader.check does.
  """
  reader.check(config, max_tokens)
  return Reader(tokenizer, resolution or pixels.Processor(
      **dict(config.processor)), max_tokens, cache_bytes)
