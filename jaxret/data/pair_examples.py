"""Training pairs as examples of one shape: query, candidate, hard negative."""
import concurrent.futures

import numpy as np

from jaxret.data import mixture
from jaxret.data.qwen2_vl import prompts as unite_prompts
from jaxret.data.qwen2_vl import reader as inputs_lib

SIDES = ('query', 'candidate', 'negative')


class PairExamples:
  """One example per pair; the arrays of each side carry its name in front.

  pairs: sequence with `query` and `candidate` Items, `target_modality` such
    as 'image' or 'text,image' (None: what the candidate has) and `negative`,
    an Item or None, alike in all pairs.
  shapes: {side: inputs.Shape} to pad to; default: measured, from the headers
    of all media.
  [i] -> `query_tokens`, ... (see inputs.pad); modality int32, the bit code of
  the target; positive int32, equal for pairs with the same candidate.
  Errors: ValueError naming the pair's query for what cannot be used.
  """

  def __init__(self, reader, pairs, shapes=None, progress=True):
    self.pairs, self.constants = pairs, {}
    self.ids = [pair.query.id for pair in pairs]
    self._reader = reader
    self.sides = tuple(side for side in SIDES
                       if getattr(pairs[0], side) is not None)
    self._modality = [_modality(pair) for pair in pairs]
    for pair in pairs:
      self._check(pair)
    first = {}
    self._positive = [first.setdefault(pair.candidate.id, len(first))
                      for pair in pairs]
    self.shapes = shapes or self._measure(progress)

  def __len__(self):
    return len(self.pairs)

  def __getitem__(self, index):
    pair = self.pairs[index]
    example = {'modality': np.int32(self._modality[index]),
               'positive': np.int32(self._positive[index])}
    for side in self.sides:
      arrays = self._reader.pad([self._read(pair, side)], self.shapes[side])
      example |= {f'{side}_{name}': array[0] for name, array in arrays.items()}
    return example

  def _read(self, pair, side):
    return self._reader(getattr(pair, side))

  def _check(self, pair):
    has = pair.negative is not None
    if has != ('negative' in self.sides):
      raise ValueError(
          f'{pair.query.id}: its pair has {"a" if has else "no"} negative, '
          'others are unlike it; give all pairs one, or none')

  def _measure(self, progress):
    """The smallest shape of each side that holds all of its items."""
    from tqdm import tqdm
    shapes = {}
    with concurrent.futures.ThreadPoolExecutor() as pool:
      for side in self.sides:
        items = {getattr(pair, side).id: getattr(pair, side)
                 for pair in self.pairs}
        found = tqdm(pool.map(self._reader.shape, items.values()),
                     f'sizes of {side} items', len(items), unit='item',
                     disable=not progress)
        shapes[side] = inputs_lib.common_shape(set(found))
    return shapes


class JoinedExamples(mixture.Mixture):
  """PairExamples of several sources as one, each with shapes of its own.

  Rows of one batch must then be of one source: MixedOrder(per_source=True).
  parts: {source: PairExamples}.
  """

  def __init__(self, parts):
    super().__init__(parts)
    self.ids = [name for part in parts.values() for name in part.ids]
    self.constants = {}


def sides(batch):
  """{'query' and so on: its arrays} of a batch of pairs."""
  found = {}
  for name, array in batch.items():
    side, _, rest = name.partition('_')
    if side in SIDES and rest != 'id':
      found.setdefault(side, {})[rest] = array
  return found


def _modality(pair):
  """The bit code of a pair's target."""
  if pair.target_modality is not None:
    return unite_prompts.modality_code(pair.target_modality, pair.query.id)
  return sum(code for name, code in unite_prompts.CODES.items()
             if getattr(pair.candidate, name) is not None)
