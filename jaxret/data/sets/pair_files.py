"""Training pairs: UNITE's published JSON, and sources mixed by weight."""
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxret.data import entries, types

_SIDES = ('query', 'candidate', 'negative')
_KEYS = (*_SIDES, 'target_modal')
MODALITIES = ('text', 'image', 'video')
ROUND = 1000  # draws after which every source has had its exact share


class Pair(NamedTuple):
  """A query and its answer.

  target_modality: 'text', 'image', 'image,text', ..., of the candidate.
  negative: an item that is no answer, or None.
  """
  query: types.Item
  candidate: types.Item
  target_modality: str
  negative: types.Item | None = None


class PairFile:
  """The pairs of a file in UNITE's training format: len(), [i] -> Pair.

  A list of {"query": X, "candidate": X, "negative": X (optional),
  "target_modal": "text", "image", "text,image", ... (optional)} with X =
  {"text": str, "image": path, list or {"type", "image"}, "video": likewise},
  of which one at least (FusedRetTrainDataset in unite/dataset/ret_dataset.py
  of friedrichor/UNITE). The order of X's keys is kept: the prompt follows it.
  Without "target_modal" the candidate's own modalities are the target.

  path: of the JSON file; the paths in it are relative to `root`, default the
    file's directory. Everything is checked here, no medium is opened.
  Errors: ValueError that names the file and the entry.
  """

  def __init__(self, path, root=None):
    self.path = pathlib.Path(path).expanduser()
    if not self.path.is_file():
      raise ValueError(f'{self.path} is not a file; wanted training pairs, a '
                       'list of {"query": ..., "candidate": ...}')
    self._root = str(root or self.path.parent)
    self._entries = entries.listed(self.path, entries.read_json(self.path))
    for i, entry in enumerate(self._entries):
      self._check(i, entry)

  def __len__(self):
    return len(self._entries)

  def __getitem__(self, i):
    entry = self._entries[i]
    sides = [self._item(f'{self.path.name}:{i + 1}:{side}', entry[side])
             if entry.get(side) else None for side in _SIDES]
    modality = entry.get('target_modal') or ','.join(
        key for key in MODALITIES if key in entry['candidate'])
    return Pair(sides[0], sides[1], modality.replace(' ', ''), sides[2])

  def _check(self, i, entry):
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
      raise entries.wrong(self.path, i, f'the field {unknown[0]!r}',
                          f'{", ".join(_KEYS)}')
    for side in _SIDES:
      if side in _SIDES[:2] or entry.get(side) is not None:
        self._check_side(i, side, entries.field(
            self.path, i, entry, side, dict))
    if entry.get('target_modal') is not None:
      for word in entries.field(self.path, i, entry, 'target_modal').split(','):
        if word.strip() not in MODALITIES:
          raise entries.wrong(
              self.path, i, f'the modality {word.strip()!r} in target_modal',
              f'{", ".join(MODALITIES)}, or several joined by commas')

  def _check_side(self, i, side, content):
    if not content or any(key not in MODALITIES for key in content):
      raise entries.wrong(
          self.path, i, f'{side!r} with {", ".join(content) or "nothing"}',
          f'one or more of {", ".join(MODALITIES)}')
    for key, value in content.items():
      if key == 'text':
        entries.field(self.path, i, content, key)
      elif not _paths(key, value):
        raise entries.wrong(self.path, i, f'{side!r} with {key} {value!r:.60}',
                            'a path, a list of paths or {"type", "image"}')

  def _item(self, name, content):
    parts = {}
    for key, value in content.items():
      if key == 'text':
        parts[key] = value
      else:
        paths = tuple(os.path.join(self._root, p) for p in _paths(key, value))
        parts[key] = paths if len(paths) > 1 else paths[0]
    return types.Item(name, **parts, order=tuple(content))


def of_split(split):
  """{source: pairs} of a Split: texts to their media, and back."""
  both = [(text, split.videos[i])
          for text, i in zip(split.texts, split.text_video)]
  return {
      'text_to_medium': [
          Pair(text, medium, 'image' if medium.video is None else 'video')
          for text, medium in both],
      'medium_to_text': [Pair(medium, text, 'text') for text, medium in both]}


def _paths(key, value):
  """The paths of a medium in any of the three forms; () if it is none."""
  if isinstance(value, dict):
    value = value.get(key)
  values = value if isinstance(value, list) else [value]
  fine = all(isinstance(path, str) and path for path in values)
  return tuple(values) if fine else ()


def save(path, pairs):
  """Writes pairs whose media are paths as a file that PairFile reads."""
  def content(item):
    return {key: getattr(item, key) for key in item.order
            if getattr(item, key) is not None}
  rows = []
  for pair in pairs:
    row = {'query': content(pair.query), 'candidate': content(pair.candidate),
           'target_modal': pair.target_modality}
    if pair.negative is not None:
      row['negative'] = content(pair.negative)
    rows.append(row)
  pathlib.Path(path).write_text(
      json.dumps(rows, ensure_ascii=False, indent=1), encoding='utf-8')


class Mixture:
  """Several sources as one: len(), [i], and the order in which to draw.

  sources: {name: sequence}. Example i of a source follows those of the
  sources before it. `index` says which source example i is of.
  """

  def __init__(self, sources):
    empty = [name for name, source in sources.items() if not len(source)]
    if empty or not sources:
      raise ValueError(f'the source {(empty or ["list"])[0]!r} is empty; leave '
                       'it out')
    self.names = tuple(sources)
    self._sources = tuple(sources.values())
    self.sizes = np.array([len(source) for source in self._sources])
    self.starts = np.cumsum(self.sizes) - self.sizes

  def __len__(self):
    return int(self.sizes.sum())

  def __getitem__(self, i):
    source = self.index(i)
    return self._sources[source][int(i - self.starts[source])]

  def index(self, i):
    return int(np.searchsorted(self.starts, i, 'right')) - 1


class MixedOrder:
  """Which example of a Mixture stands in which row of which step.

  For data.loader.train_batches(order=...): it depends on the seed and the step
  alone, so that a run resumes from one integer.

  weights: {name: share}, of any sum; None = in proportion to the sizes.
  per_source: every batch is drawn from one source, so that its negatives are
    of one kind; otherwise every row is drawn by itself.
  In ROUND draws, of batches or of rows, each source has its exact share; the
  draws of a round are shuffled. Each source is read in epochs, shuffled anew.
  """

  def __init__(self, mixture, batch_size, seed, weights=None,
               per_source=False):
    self._mixture, self._seed = mixture, seed
    self._batch_size, self._per_source = batch_size, per_source
    self._quotas = _quotas(mixture, weights)
    self._drawn = np.repeat(np.arange(len(self._quotas)), self._quotas)
    if per_source and mixture.sizes.min() < batch_size:
      name = mixture.names[int(np.argmin(mixture.sizes))]
      raise ValueError(
          f'source {name!r} has {mixture.sizes.min()} examples, a batch is '
          f'{batch_size}: with batches per source each must fill one; choose '
          'a smaller batch_size or leave the source out')
    self._cached = {}

  def __call__(self, step, batch_size, row):
    if batch_size != self._batch_size:
      raise ValueError(f'the order is for batches of {self._batch_size}, not '
                       f'of {batch_size}')
    draw = step if self._per_source else step * batch_size + row
    number, place = divmod(draw, ROUND)
    sources, before = self._round(number)
    source = sources[place]
    nth = number * int(self._quotas[source]) + int(before[place])
    size = int(self._mixture.sizes[source])
    if self._per_source:
      epoch, batch = divmod(nth, size // batch_size)
      place = batch * batch_size + row
    else:
      epoch, place = divmod(nth, size)
    order = self._permutation(source, epoch)
    return int(self._mixture.starts[source] + order[place])

  def _round(self, number):
    """(source of each draw, how many of the same came before it), [ROUND]."""
    def make():
      sources = np.random.default_rng(
          (self._seed, 0, number)).permutation(self._drawn)
      before = np.zeros(ROUND, np.int64)
      for source in range(len(self._quotas)):
        own = sources == source
        before[own] = np.arange(own.sum())
      return sources, before
    return self._kept(('round',), number, make)

  def _permutation(self, source, epoch):
    return self._kept(
        ('source', source), epoch, lambda: np.random.default_rng(
            (self._seed, 1, source, epoch)).permutation(
                self._mixture.sizes[source]))

  def _kept(self, name, number, make):
    """What `make` gives; threads near a border read from two of them."""
    key = (*name, number % 2)
    found = self._cached.get(key)
    if found is None or found[0] != number:
      found = self._cached[key] = number, make()
    return found[1]


def _quotas(mixture, weights):
  """Draws of each source in a round, int [n]; they sum to ROUND."""
  if weights is None:
    shares = mixture.sizes / mixture.sizes.sum()
  else:
    if set(weights) != set(mixture.names) or min(weights.values()) <= 0:
      raise ValueError(f'weights {dict(weights)} for the sources '
                       f'{", ".join(mixture.names)}; wanted one above 0 for '
                       'each')
    shares = np.array([weights[name] for name in mixture.names], np.float64)
    shares /= shares.sum()
  if len(shares) > ROUND:
    raise ValueError(f'{len(shares)} sources; at most {ROUND} can be mixed')
  # One each at least; the rest by largest remainder.
  exact = shares * (ROUND - len(shares))
  quotas = 1 + np.floor(exact).astype(int)
  rest = np.argsort(np.floor(exact) - exact, kind='stable')
  quotas[rest[:ROUND - quotas.sum()]] += 1
  return quotas
