"""Texts as the padded arrays of sentence-transformers' BERT models."""
from typing import NamedTuple

import numpy as np

from jaxret.data import whole_texts
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen2_vl import seen as seen_lib


class Inputs(NamedTuple):
  """One item before padding: int32 [T]."""
  id: str
  tokens: np.ndarray


class Reader:
  """Reads texts, of no image or video.

  config: a models.sentence_bert.model.SentenceBertConfig. max_tokens: of a
  text. trim_text: what is done with a longer one. True cuts its end and says
  so, where sentence-transformers cuts it silently; False refuses it.
  """

  def __init__(self, config, tokenizer, max_tokens, trim_text=False):
    if tokenizer.added is None:
      raise ValueError('the tokenizer changes a text where it adds special '
                       'tokens: use that of the model')
    self.config, self.trim_text = config, trim_text
    self._pad_id = tokenizer.pad_id
    self.texts = whole_texts.WholeTexts(
        tokenizer, *tokenizer.added, max_tokens, config.encoder.vocab_size)

  def __call__(self, item, prompt=None):
    """Inputs of an item; the prompt is put in front of its text."""
    kinds, _ = seen_lib.media_of(item)
    if kinds:
      raise ValueError(f'{item.id}: it has {" and ".join(sorted(set(kinds)))}; '
                       'this model embeds texts alone')
    text = (self.config.prompt if prompt is None else prompt) + item.text
    text = text.strip()
    return Inputs(item.id, self.texts.tokens(
        item.id, text.lower() if self.config.lower else text, self.trim_text))

  def check(self, item):
    """Raises for what a text shows."""
    self(item)

  def bucket(self, inputs):
    """(T,), with little room to spare."""
    return (min(inputs_lib.bucket(len(inputs.tokens), 16),
                self.texts.max_tokens),)

  def pad(self, inputs, shape):
    """Arrays of several Inputs, rows in order; ValueError names one too long.
    """
    for one in inputs:
      if len(one.tokens) > shape[0]:
        raise ValueError(f'{one.id}: {len(one.tokens)} tokens, the batch has '
                         f'room for {shape[0]}')
    return whole_texts.pad(
        [one.tokens for one in inputs], shape[0], self._pad_id)


def open_reader(config, tokenizer, max_tokens=None, trim_text=False):
  """The Reader of a SentenceBertConfig; max_tokens: default as its files say.

  Raises ValueError if the model has no positions for so many.
  """
  most = config.encoder.max_tokens
  if max_tokens is not None and not 2 < max_tokens <= most:
    raise ValueError(f'max_tokens: got {max_tokens}, want 3 to {most}, which '
                     'the model has positions for')
  return Reader(config, tokenizer, max_tokens or config.max_tokens, trim_text)
