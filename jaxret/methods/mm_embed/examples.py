"""Instructed training pairs as examples: query, candidate, hard negatives."""
from jaxret.data import pair_examples
from jaxret.data.llava import reader as mm_embed_inputs


class Examples(pair_examples.PairExamples):
  """PairExamples of mixed.Pairs, each query with its instruction.

  `positive` is equal where the candidate is the same document, and so is
  `negative_id` of the negatives.
  """

  def _identity(self, item):
    return item.id

  def _read(self, pair, side):
    if side == 'query':
      return self._reader(pair.query, pair.instruction)
    return super()._read(pair, side)

  def _measure(self, progress):
    shapes = {}
    for pair in self.pairs:
      for side, item in pair_examples.items_of(pair).items():
        is_query = side == 'query'
        shapes.setdefault(pair_examples.kind(side), set()).add(
            self._reader.shape(
                item, (pair.instruction or None) if is_query else None,
                is_query))
    return {side: tuple(mm_embed_inputs.common_shape(found))
            for side, found in shapes.items()}
