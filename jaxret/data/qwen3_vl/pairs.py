"""Queries with their candidates, as Qwen3-VL-Reranker is asked of them.

As the authors' script (spec §4), a pair alone; what cannot be read is said of
its item, where the script asks of the text NULL.
"""
import numpy as np
from absl import logging

from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pixels, prompts, reader

ANSWERS = ('yes', 'no')
KEPT = 5  # tokens at the end of a prompt, which is cut before them


class PairReader:
  """Reads pairs of items.

  tokenizer, resolution, cache_bytes: as a reader.Reader has them.
  max_tokens: of a prompt. A longer one loses the end of its text, the
  candidate's first, but for what the prompt needs (up to KEPT tokens more), as
  the authors cut; ValueError where that is not enough.
  words: ids of the two ANSWERS.
  """

  def __init__(self, tokenizer, resolution=None, max_tokens=10240,
               cache_bytes=0):
    self._reader = reader.Reader(
        tokenizer, resolution or pixels.Resolution(), cache_bytes=cache_bytes)
    self.max_tokens, self.special = max_tokens, self._reader.special
    self._control = [tokenizer.encode(token)[0]
                     for token in prompts.CONTROL_TOKENS]
    words = [tokenizer.encode(word) for word in ANSWERS]
    if any(len(word) != 1 for word in words):
      raise ValueError('the tokenizer has no token "yes" or "no", which answer '
                       'for a reranker: use that of Qwen3-VL')
    self.words = tuple(word[0] for word in words)

  def __call__(self, query, candidate, instruction=None):
    """reader.Inputs of a pair of Items; errors name the one that is wrong."""
    prompts.check(query.id, instruction or '', 'instruction')
    said, kinds, grids, patches = [], (), (), ()
    for item in (query, candidate):
      own_kinds, own_grids, own_patches, sampled = self._reader.see(item)
      said.append(self._reader.content(item, sampled))
      kinds, grids = (*kinds, *own_kinds), (*grids, *own_grids)
      patches = (*patches, *own_patches)
    kinds, grids = reader.sliced(kinds, grids)
    name = f'{query.id} with {candidate.id}'
    ids = self._reader.expanded(
        prompts.question(*said, instruction), kinds, grids)
    ids = np.concatenate(
        [self._reader.before, ids, self._reader.behind]).astype(np.int32)
    return inputs_lib.Inputs(name, self._cut(name, ids), kinds, grids, patches)

  def bucket(self, inputs):
    """The Shape that holds Inputs, with little room to spare."""
    return inputs_lib.shape_of(len(inputs.tokens), inputs.grids)

  def pad(self, inputs, shape):
    """Arrays of several Inputs, see reader.pad."""
    return reader.pad(inputs, inputs_lib.Shape(*shape), self.special)

  def _cut(self, name, ids):
    """At most max_tokens and the KEPT last ones; control tokens all stay."""
    ids, kept = ids[:-KEPT], ids[-KEPT:]
    if len(ids) <= self.max_tokens:
      return np.concatenate([ids, kept])
    control = np.isin(ids, self._control)
    room = self.max_tokens - control.sum()
    if room < 0:
      raise ValueError(
          f'{name}: {control.sum()} tokens that are never cut, want at most '
          f'{self.max_tokens}: use fewer frames or smaller images, or raise '
          'max_tokens')
    logging.warning('%s: %d tokens, the end of its text is cut to keep %d',
                    name, len(ids) + KEPT, self.max_tokens + KEPT)
    stays = control | (np.cumsum(~control) <= room)
    return np.concatenate([ids[stays], kept])
