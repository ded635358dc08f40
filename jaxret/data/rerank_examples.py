"""Right and wrong candidates as questions to be answered True or False."""
from typing import NamedTuple

import numpy as np

from jaxret.data import rerank_inputs, types


class Asked(NamedTuple):
  """A query, a candidate, and whether it is right."""
  query: types.Item
  candidate: types.Item
  question: str
  is_right: bool


class Examples:
  """One example per Asked: prompt arrays, and the token of the answer."""

  def __init__(self, reader, words, shape, asked):
    self.ids = [f'{one.query.id} {one.candidate.id}' for one in asked]
    self.constants = {}
    self._reader, self._words, self._shape = reader, words, shape
    self._asked = asked

  def __len__(self):
    return len(self._asked)

  def __getitem__(self, index):
    one = self._asked[index]
    prompt = self._reader(one.query, one.candidate, one.question)
    arrays = rerank_inputs.pad([prompt], self._shape, self._reader.grid)
    return {**{name: array[0] for name, array in arrays.items()},
            'answer': np.int32(self._words[0 if one.is_right else 1])}


def balanced(training_set, ranked, question, seed, depth):
  """Asked, twice per query: an answer, and a wrong one of its modality.

  training_set: a mixed.TrainingSet; ranked: int [Q, K], what a retriever finds
  for its queries; the wrong ones are among the first `depth` that are of the
  right modality. A query without such a one is left out.
  """
  from jaxret.data import mixed
  place = mixed.places(training_set.pool)
  modality = mixed.codes(training_set.pool)
  rng = np.random.default_rng((seed, 2))
  asked = []
  for query, row in zip(training_set.queries, ranked):
    right = np.array([place[name] for name in query.positives])
    row = row[row >= 0]
    no_wrong = [*right, *(place[name] for name in query.excluded)]
    wrong = row[(modality[row] == modality[right[0]])
                & ~np.isin(row, no_wrong)][:depth]
    if len(wrong):
      for chosen, is_right in ((right, True), (wrong, False)):
        asked.append(Asked(
            query.item, training_set.pool[int(rng.choice(chosen))], question,
            is_right))
  return asked
