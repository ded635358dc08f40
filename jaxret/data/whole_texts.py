"""Texts as token ids with what a tokenizer puts around them.

For encoders that embed a text as it is, without a prompt of their own.
"""
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxret.data.text import Tokenizer


class WholeTexts(NamedTuple):
  """Turns a text into token ids.

  before, behind: the ids around it. max_tokens: these included. vocab_size: of
  the table of embeddings.
  """
  tokenizer: Tokenizer
  before: tuple[int, ...]
  behind: tuple[int, ...]
  max_tokens: int
  vocab_size: int

  def tokens(self, name: str, text: str, trim: bool) -> np.ndarray:
    """int32 [T], not padded; a longer text is cut, or refused without `trim`.

    Raises ValueError, naming the item, also for a control token in the text
    and for a token that the model has no embedding of.
    """
    ids = self.tokenizer.encode(text)
    control = set(ids) & {*self.before, *self.behind}
    if control:
      raise ValueError(f'{name}: its text holds a control token of the model '
                       f'(id {min(control)}); take it out')
    if max(ids, default=0) >= self.vocab_size:
      raise ValueError(
          f'{name}: token {max(ids)} lies outside the table of '
          f'{self.vocab_size} embeddings; use the tokenizer of the model')
    room = self.max_tokens - len(self.before) - len(self.behind)
    if len(ids) > room:
      n_tokens = len(ids) + self.max_tokens - room
      if not trim:
        raise ValueError(
            f'{name}: {n_tokens} tokens, want at most {self.max_tokens}, which '
            'are all that the model reads: shorten its text, or let its end be '
            'cut (trim_text)')
      logging.warning('%s: %d tokens, the end of its text is cut to keep %d',
                      name, n_tokens, self.max_tokens)
    return np.array([*self.before, *ids[:room], *self.behind], np.int32)


def pad(rows: list[np.ndarray], length: int, pad_id: int
        ) -> dict[str, np.ndarray]:
  """{'tokens': int32 [B, T], 'length': int32 [B]}, padded on the right."""
  tokens = np.full((len(rows), length), pad_id, np.int32)
  for ids, row in zip(rows, tokens):
    row[:len(ids)] = ids
  return {'tokens': tokens,
          'length': np.array([len(ids) for ids in rows], np.int32)}
