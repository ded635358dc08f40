"""Instructed training pairs as examples: query, candidate, hard negative."""
import numpy as np

from jaxret.data import pair_examples
from jaxret.data.llava import reader as mm_embed_inputs


class Examples(pair_examples.PairExamples):
  """PairExamples of mixed.Pairs, each query with its instruction.

  `positive` is equal where the candidate is the same document, and so is
  `negative_id` of the negative.
  """

  def __init__(self, reader, pairs, shapes=None, progress=True):
    super().__init__(reader, pairs, shapes, progress)
    if 'negative' in self.sides:
      numbers = {}
      for pair, number in zip(pairs, self._positive):
        numbers.setdefault(pair.candidate.id, number)
      self._negative_ids = [
          numbers.setdefault(pair.negative.id, len(numbers))
          for pair in pairs]

  def __getitem__(self, index):
    example = super().__getitem__(index)
    if 'negative' in self.sides:
      example['negative_id'] = np.int32(self._negative_ids[index])
    return example

  def _read(self, pair, side):
    if side == 'query':
      return self._reader(pair.query, pair.instruction)
    return self._reader(getattr(pair, side))

  def _measure(self, progress):
    shapes = {}
    for side in self.sides:
      is_query = side == 'query'
      shapes[side] = tuple(mm_embed_inputs.common_shape({
          self._reader.shape(getattr(pair, side),
                             (pair.instruction or None) if is_query else None,
                             is_query)
          for pair in self.pairs}))
    return shapes
