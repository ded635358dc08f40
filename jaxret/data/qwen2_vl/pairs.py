"""Queries with their candidates, as a chat model is asked about them.

Whole pairs are tokenized, as if each was alone; `shared` says how much of one
is the same for all candidates of its query. What cannot be read is said of its
item.
"""
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxret.data import question_frames
from jaxret.data.qwen2_vl import continuations, prompts, reader
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import seen as seen_lib

KEPT = 5  # tokens at the end of a prompt, which is cut before them
DEFAULT_FRAME = question_frames.FRAMES['yes_no']


class Shown(NamedTuple):
  """What a pair says of one of its items.

  text: with a placeholder for each medium. media: (kind, source) of each.
  grids: (t, h, w) of each, in patches. sampled: the seen.Sampled of each, None
  of images.
  """
  id: str
  text: str
  media: tuple[tuple[str, object], ...] = ()
  grids: tuple[tuple[int, int, int], ...] = ()
  sampled: tuple[seen_lib.Sampled | None, ...] = ()

  @property
  def kinds(self):
    return tuple(kind for kind, _ in self.media)


class Pairs:
  """What the PairReaders of backbones have in common; of a reader.Reader.

  max_tokens: of a prompt. A longer one loses the end of its text, the
  candidate's first, but for what the prompt needs (a few tokens more), as the
  authors of Qwen3-VL-Reranker cut; ValueError where that is not enough.
  """
  before: tuple[int, ...] = ()  # what the tokenizer's own file adds
  behind: tuple[int, ...] = ()

  def __call__(self, query, candidate, instruction=None, frame=DEFAULT_FRAME):
    """reader.Inputs of a pair of Items; errors name the one that is wrong."""
    self.check_instruction(instruction)
    shown = [self.look(item) for item in (query, candidate)]
    patches = [self.see_medium(one.id, *medium)
               for one in shown for medium in one.media]
    kinds, grids, sampled = self.units(*shown)
    return reader.Inputs(
        f'{query.id} with {candidate.id}',
        self.tokens(*shown, frame, instruction), kinds, grids, tuple(patches),
        sampled)

  def look(self, item):
    """The Shown of an Item, of its media the headers alone."""
    media = tuple(self._media(item))
    found = [self._grid(item.id, *medium) for medium in media]
    grids, sampled = zip(*found) if found else ((), ())
    return Shown(item.id, self._said(item, media, sampled), media, grids,
                 sampled)

  def see_medium(self, name, kind, source):
    """The patches of a medium, uint8 [t * h * w, values]."""
    return self._see(name, kind, source)[0]

  def words(self, frame):
    """The tokens of a frame's answers, (right, wrong)."""
    found = [self._encode(word) for word in frame.answers]
    if any(len(word) != 1 for word in found) or found[0] == found[1]:
      right, wrong = frame.answers
      raise ValueError(
          f'the tokenizer has no token "{right}" or "{wrong}", which answer '
          'for a reranker: use that of the model, or another frame')
    return tuple(word[0] for word in found)

  def units(self, query, candidate):
    """(kinds, grids, sampled) of the media of both, in order."""
    return (query.kinds + candidate.kinds, query.grids + candidate.grids,
            query.sampled + candidate.sampled)

  def positions(self, query, candidate, tokens):
    """Where the tokens of a pair stand, int32 [3, T]."""
    kinds, grids, sampled = self.units(query, candidate)
    return visual_tokens.mrope_positions(
        tokens, kinds, grids, self.special, self.layout.merge,
        self.layout.steps(sampled))

  def check_instruction(self, instruction):
    """Raises ValueError for what is no instruction."""
    if instruction is not None and not isinstance(instruction, str):
      raise ValueError(f'instruction: got {type(instruction).__name__}, want a '
                       'text')
    prompts.check_text(instruction or '', 'the instruction')

  def head(self, query, frame=DEFAULT_FRAME, instruction=None):
    """The tokens of what stands before a candidate, int32 [S]."""
    start, _ = self._around(frame.system)
    return self._ids(f'{start}{frame.asked(query.text, instruction)}',
                     query, Shown('', ''))

  def tokens(self, query, candidate, frame=DEFAULT_FRAME, instruction=None):
    """The tokens of a whole pair, int32 [T]."""
    start, end = self._around(frame.system)
    asked = frame.asked(query.text, instruction)
    ids = self._ids(f'{start}{asked}{candidate.text}{frame.behind}{end}',
                    query, candidate)
    ids = np.concatenate([ids, self.behind]).astype(np.int32)
    kept = KEPT if not frame.behind else len(
        self._encode(f'{frame.behind}{end}')) + len(self.behind)
    return self._cut(f'{query.id} with {candidate.id}', ids, kept)

  def _ids(self, text, query, candidate):
    kinds, grids, _ = self.units(query, candidate)
    return np.concatenate([
        self.before, self.expanded(text, kinds, grids)]).astype(np.int32)

  def _around(self, system):
    """(what stands before a user's turn, what behind it)."""
    return self._prompt('\0', system).split('\0')

  def _cut(self, name, ids, kept):
    """At most max_tokens and the `kept` last; control tokens all stay."""
    ids, kept = ids[:-kept], ids[-kept:]
    if len(ids) <= self.max_tokens:
      return np.concatenate([ids, kept])
    control = np.isin(ids, [self._one_token(token)
                            for token in prompts.CONTROL_TOKENS])
    room = self.max_tokens - control.sum()
    if room < 0:
      raise ValueError(
          f'{name}: {control.sum()} tokens that are never cut, want at most '
          f'{self.max_tokens}: use fewer frames or smaller images, or raise '
          'max_tokens')
    logging.warning('%s: %d tokens, the end of its text is cut to keep %d',
                    name, len(ids) + len(kept), self.max_tokens + len(kept))
    stays = control | (np.cumsum(~control) <= room)
    return np.concatenate([ids[stays], kept])


class PairReader(Pairs, reader.Reader):
  """Reads pairs of items for Qwen2-VL and Qwen2.5-VL.

  A medium stands where a text marks it, else before the text.
  tokenizer, resolution, alpha, layout: as a reader.Reader has them.
  """

  def __init__(self, tokenizer, resolution, max_tokens=4096, alpha='white',
               layout=visual_tokens.QWEN2_VL):
    super().__init__(tokenizer, resolution, max_tokens, alpha=alpha,
                     mrope=True, layout=layout)

  def _media(self, item):
    if all(getattr(item, kind) is None for kind in seen_lib.MODALITIES):
      return ()
    return zip(*seen_lib.media_of(item))

  def _said(self, item, media, sampled):
    if not media and item.text is None:
      return question_frames.NOTHING
    kinds = [kind for kind, _ in media]
    said = prompts.marked(prompts.Content(
        item.text or '', {kind: kinds.count(kind) for kind in prompts.MARKS},
        item.order), item.id, between='').text
    for kind, mark in prompts.MARKS.items():
      said = said.replace(mark, prompts.seen(kind))
    return said

  def _prompt(self, shown, system):
    turns = [] if system is None else [('system', system)]
    return prompts.conversation([*turns, ('user', shown)])


def shared(head, tokens):
  """How many tokens of a pair are its head's; one at least is not."""
  count = min(len(head), len(tokens) - 1)
  differs = np.flatnonzero(head[:count] != tokens[:count])
  return int(differs[0]) if len(differs) else count


def open_reader(config, tokenizer, max_tokens=4096, resolution=None,
                alpha='white'):
  """The PairReader of a Qwen2VlConfig; resolution: as for continuations.

  Raises ValueError as data.qwen2_vl.reader.check does.
  """
  reader.check(config, max_tokens)
  return PairReader(tokenizer, resolution or continuations.RESOLUTION,
                    max_tokens, alpha, reader.layout_of(config))
