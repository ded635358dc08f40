"""Questions and their answers, as examples of one shape."""
import dataclasses

import numpy as np

from jaxret.data import text
from jaxret.data.qwen2_vl import reader as reader_lib


class AnswerExamples:
  """One example per question: arrays as data.qwen2_vl.continuations pads them.

  reader: a continuations.Reader. asked: a data.questions.Questions whose
  answers are all known. prompt_length: int32, how many tokens come before the
  answer. shape: a reader.Shape to pad to; default: measured, from the headers
  of all media.
  Errors: ValueError naming the question for what cannot be used.
  """

  def __init__(self, reader, asked, shape=None):
    self.constants = {}
    self.ids = [question.id for question in asked.questions]
    self._reader = reader
    self._items = [
        dataclasses.replace(item, id=q.id, text=q.text)
        for item, q in zip(media_of(asked, asked.questions), asked.questions)]
    self._answers = [
        reader.suffix(f'{q.choices[q.answer]}{text.END}', q.id)
        for q in asked.questions]
    self.shape = shape or reader_lib.common_shape(
        {self._shape(i) for i in range(len(self._items))})

  def __len__(self):
    return len(self._items)

  def __getitem__(self, index):
    prompt = self._reader(self._items[index], True)
    answer = self._answers[index]
    # Text stands at the same position on all axes, one after the other.
    places = prompt.positions[:, -1:] + 1 + np.arange(len(answer))
    whole = prompt._replace(
        tokens=np.concatenate([prompt.tokens, answer]),
        positions=np.concatenate([prompt.positions, places], 1))
    arrays = self._reader.pad([whole], self.shape)
    return {**{name: array[0] for name, array in arrays.items()},
            'prompt_length': np.int32(len(prompt.tokens))}

  def _shape(self, index):
    kinds, grids, *_ = self._reader.grids(self._items[index])
    tokens = self._reader.tokens(self._items[index], kinds, grids, True)
    return reader_lib.shape_of(len(tokens) + len(self._answers[index]), grids)


def media_of(asked, questions):
  """The items of `asked` that these questions are about, one each."""
  return [asked.items[question.item] for question in questions]
