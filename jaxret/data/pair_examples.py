"""Training pairs as examples of one shape: query, candidate, hard negative."""
import concurrent.futures
import os
import re

import numpy as np

from jaxret.data import mixture
from jaxret.data.qwen2_vl import prompts as unite_prompts
from jaxret.data.qwen2_vl import reader as inputs_lib

SIDES = ('query', 'candidate', 'negative')
# What pairs of one batch have or have not alike.
_ALIKE = {'scores': 'scores of a teacher', 'grade': 'grade'}
_OR = 'or set pairs.per_source=True where sources differ'


class PairExamples:
  """One example per pair; the arrays of each side carry its name in front.

  pairs: sequence with `query` and `candidate` Items, `target_modality` such
    as 'image' or 'text,image' (None: what the candidate has) and `negative`,
    an Item, a tuple of several, or None. Perhaps `scores`, a teacher's of the
    candidate and the negatives, or `grade`, how well the candidate answers.
    All that alike in all pairs.
  shapes: {side: inputs.Shape} to pad to; default: measured, from the headers
    of all media.
  [i] -> `query_tokens`, ... (see inputs.pad), of several negatives
  `negative_...`, `negative1_...`, and so on; modality int32, the bit code of
  the target; positive int32, equal for pairs with the same candidate; document
  int32, equal where a candidate has the same content, and negative_id int32,
  [N] of several, those of negatives; teacher float32 [1 + N]; grade float32.
  Errors: ValueError naming the pair's query for what cannot be used.
  """

  def __init__(self, reader, pairs, shapes=None, progress=True):
    self.pairs, self.constants = pairs, {}
    self.ids = [pair.query.id for pair in pairs]
    self._reader = reader
    self.sides = tuple(items_of(pairs[0]))
    self._modality = [_modality(pair) for pair in pairs]
    for pair in pairs:
      self._check(pair)
    first = {}
    self._positive = [first.setdefault(pair.candidate.id, len(first))
                      for pair in pairs]
    known = {}
    def document(item):
      return known.setdefault(self._identity(item), len(known))
    self._document = [document(pair.candidate) for pair in pairs]
    self._negative_ids = [
        [*map(document, negatives_of(pair))] for pair in pairs]
    self.shapes = shapes or self._measure(progress)

  def __len__(self):
    return len(self.pairs)

  def __getitem__(self, index):
    pair = self.pairs[index]
    example = {'modality': np.int32(self._modality[index]),
               'positive': np.int32(self._positive[index]),
               'document': np.int32(self._document[index])}
    for side in self.sides:
      arrays = self._reader.pad(
          [self._read(pair, side)], self.shapes[kind(side)])
      example |= {f'{side}_{name}': array[0] for name, array in arrays.items()}
    negative_ids = np.array(self._negative_ids[index], np.int32)
    if len(negative_ids):
      example['negative_id'] = (
          negative_ids if len(negative_ids) > 1 else negative_ids[0])
    if getattr(pair, 'scores', None) is not None:
      example['teacher'] = np.array(pair.scores, np.float32)
    if getattr(pair, 'grade', None) is not None:
      example['grade'] = np.float32(pair.grade)
    return example

  def _read(self, pair, side):
    return self._reader(items_of(pair)[side])

  def _identity(self, item):
    """What is equal for items of the same content."""
    return _content(item)

  def _check(self, pair):
    has, wanted = (len(sides) - 2 for sides in (items_of(pair), self.sides))
    if has != wanted:
      raise ValueError(
          f'{pair.query.id}: its pair has {has or "no"} negative'
          f'{"s" * (has > 1)}, others are unlike it, {wanted or "none"}; give '
          f'all pairs as many, or none, {_OR}')
    for name, what in _ALIKE.items():
      has, wanted = (getattr(one, name, None) is not None
                     for one in (pair, self.pairs[0]))
      if has != wanted:
        raise ValueError(
            f'{pair.query.id}: its pair has {"a" if has else "no"} {what}, '
            f'others are unlike it; give all pairs one, or none, {_OR}')

  def _measure(self, progress):
    """The smallest shape of each side that holds all of its items."""
    from tqdm import tqdm
    shapes = {}
    with concurrent.futures.ThreadPoolExecutor() as pool:
      for side in dict.fromkeys(map(kind, self.sides)):
        items = {item.id: item for pair in self.pairs
                 for own, item in items_of(pair).items() if kind(own) == side}
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


class Headers:
  """Media of training pairs of several sources, of which headers are read.

  items: of the pairs, one for each medium or set of media. ids: one string
  each. `scan` as media.Frames has it.
  """

  def __init__(self, reader, sources):
    self._reader, found = reader, {}
    for pairs in sources.values():
      for pair in (pairs[i] for i in range(len(pairs))):
        for item in items_of(pair).values():
          if _has_media(item):
            found.setdefault(_media_id(item), item)
    self.ids, self.items = list(found), list(found.values())

  def __len__(self):
    return len(self.items)

  def scan(self, indices, progress=True):
    """{index: why it cannot be used} of the bad ones among `indices`."""
    from tqdm import tqdm

    def reason(index):
      try:
        self._reader.check(self.items[int(index)])
      except ValueError as error:  # media.MediaError is one
        return str(error)
      return None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      reasons = list(tqdm(pool.map(reason, indices), 'headers of media',
                          len(indices), unit='item', disable=not progress))
    return {int(i): r for i, r in zip(indices, reasons) if r is not None}


def without(sources, bad):
  """{source: pairs} less those with a medium in `bad`, ids as Headers' are.

  A source that loses none stays what it is; one that loses all is left out.
  """
  kept = {}
  for name, pairs in sources.items():
    good = [pair for pair in (pairs[i] for i in range(len(pairs)))
            if not any(_media_id(item) in bad
                       for item in items_of(pair).values())]
    if good:
      kept[name] = pairs if len(good) == len(pairs) else good
  return kept


def negatives_of(pair):
  """The negatives of a pair: a tuple of none, one or several Items."""
  if pair.negative is None:
    return ()
  return pair.negative if type(pair.negative) is tuple else (pair.negative,)


def items_of(pair):
  """{side: Item} of a pair; sides are query, candidate, negative, negative1.

  And so on.
  """
  return {'query': pair.query, 'candidate': pair.candidate, **{
      f'negative{number or ""}': item
      for number, item in enumerate(negatives_of(pair))}}


def kind(side):
  """'negative' of 'negative', 'negative1' and so on."""
  return side.rstrip('0123456789')


def number(side):
  """0 of 'negative', 1 of 'negative1' and so on; 0 of other sides.

  The names alone do not order them: under `jit` negative1 is before negative.
  """
  return int(side.removeprefix(kind(side)) or 0)


def _content(item):
  """What an item shows and says; its id where that is no name of it."""
  parts = item.text, item.image, item.video
  named = all(part is None or isinstance(part, str) or (
      isinstance(part, tuple) and all(isinstance(one, str) for one in part))
              for part in parts)
  return parts if named else item.id


def _has_media(item):
  return item.image is not None or item.video is not None


def _media_id(item):
  return repr((item.image, item.video))


def sides(batch):
  """{'query' and so on: its arrays} of a batch of pairs."""
  found = {}
  for name, array in batch.items():
    side, _, rest = name.partition('_')
    if re.fullmatch(r'query|candidate|negative\d*', side) and rest != 'id':
      found.setdefault(side, {})[rest] = array
  return found


def _modality(pair):
  """The bit code of a pair's target."""
  if pair.target_modality is not None:
    return unite_prompts.modality_code(pair.target_modality, pair.query.id)
  return sum(code for name, code in unite_prompts.CODES.items()
             if getattr(pair.candidate, name) is not None)
