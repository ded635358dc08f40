"""Queries, each with a right and wrong candidates, to learn to answer from."""
from typing import NamedTuple

import numpy as np

from jaxret.data import types
from jaxret.data.llava import questions as rerank_inputs


class Group(NamedTuple):
  """A query and its candidates, of which the first is right."""
  query: types.Item
  candidates: tuple[types.Item, ...]
  question: str


class Examples:
  """One example per Group: arrays of rerank_inputs.pad_groups, without [Q]."""

  def __init__(self, reader, shape, groups):
    self.ids = [f'{one.query.id} {one.candidates[0].id}' for one in groups]
    self.constants = {}
    self._reader, self._shape, self._groups = reader, shape, groups

  def __len__(self):
    return len(self._groups)

  def __getitem__(self, index):
    one = self._groups[index]
    prompts = [self._reader(one.query, candidate, one.question)
               for candidate in one.candidates]
    arrays = rerank_inputs.pad_groups(
        [prompts], self._shape, self._reader.grid)
    return {name: array[0] for name, array in arrays.items()}


def groups(training_set, ranked, question_of, seed, depth, n_near, n_far):
  """[Group] of 1 + n_near + n_far candidates of one modality, one per query.

  training_set: a mixed.TrainingSet; ranked: int [Q, K], what a retriever finds
  for its queries; question_of: (query Item, modality of its candidates) -> a
  template. The modality is that of one of the query's answers, at random where
  they have several. Of the wrong ones n_near are among the first `depth` of
  it, if there are as many, and all others from anywhere in the part of the
  pool that the answer is in. A query that has fewer wrong candidates than that
  is left out.
  """
  from jaxret.data.sets import mixed
  place = mixed.places(training_set.pool)
  modality = mixed.codes(training_set.pool)
  labels = np.unique(training_set.labels, return_inverse=True)[1]
  rng = np.random.default_rng((seed, 2))
  found = []
  for query, row in zip(training_set.queries, ranked):
    right = np.array([place[name] for name in query.positives])
    # Not drawn where there is no choice: the rest of the seed's draws stay.
    wanted = modality[right[0] if len(set(modality[right])) == 1
                      else rng.choice(right)]
    no_wrong = [*right, *(place[name] for name in query.excluded)]
    row = row[(row >= 0) & ~np.isin(row, no_wrong)]
    right = right[modality[right] == wanted]
    near = row[modality[row] == wanted][:depth]
    near = rng.permutation(near)[:n_near]
    far = np.flatnonzero((labels == labels[right[0]]) & (modality == wanted))
    far = far[~np.isin(far, [*no_wrong, *near])]
    n_more = n_near + n_far - len(near)
    if len(far) >= n_more:
      chosen = [rng.choice(right), *near, *rng.permutation(far)[:n_more]]
      found.append(Group(query.item, tuple(
          training_set.pool[int(c)] for c in chosen),
                         question_of(query.item, mixed.MODALITIES[wanted])))
  return found
