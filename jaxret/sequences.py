"""`jaxret.score_sequences`: how likely texts are behind prompts.

  model = jaxret.load_generator('Qwen/Qwen2-VL-2B-Instruct', dtype='bfloat16')
  log_likelihood = jaxret.score_sequences(
      [{'image': 'dog.jpg', 'text': 'This is a photo of a'}],
      [' dog', ' cat'], model)                                # float32 [1, 2]
"""
import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tqdm
from numpy.typing import ArrayLike

from jaxret import batches, embedder, generator, loading, reading, sharding
from jaxret.data import types
from jaxret.scoring.embeddings import store
from jaxret.scoring.likelihood import sequences

REDUCTIONS = ('sum', 'mean')


class PerToken(NamedTuple):
  """What score_sequences gives with `per_token`.

  log_likelihood: float32 [P, S], or [N] of pairs, as without it.
  tokens: the pieces of text of each suffix's tokens; () of one left out.
  token_log_likelihood: object array like log_likelihood, of float32 [L] each.
  """
  log_likelihood: np.ndarray
  tokens: tuple[tuple[str, ...], ...]
  token_log_likelihood: np.ndarray


def score_sequences(
    prefixes: Sequence[embedder.Given], suffixes: Sequence[str | types.Item],
    model: str | os.PathLike | generator.Generator, *,
    pairs: ArrayLike | None = None, per_token: bool = False,
    reduction: str = 'sum', chat: bool = False, mask_media: bool = False,
    rows: int = 8, columns: int = 64,
    on_error: str | Callable[[ValueError], None] = 'raise',
    show_progress: bool = True) -> np.ndarray | PerToken:
  """log P(suffix | prefix) in nats, of all pairs or of given ones.

  A prefix is read once and what suffixes begin with alike is computed once
  behind it. A number does not depend on the order in which things are given,
  to the bit; on what else is given it depends as float32 rounds.

  Scored are the tokens of a suffix by itself, as it is: write the space that
  belongs before a word, and <|im_end|> where the end is to be scored as well.
  Where a tokenizer would write prefix and suffix together otherwise than each
  alone, at a seam in the middle of a word, these tokens still are what is
  scored.

  Args:
    prefixes: P texts, dicts of `text`, `image`, `video`, PIL images or
      data.types.Items, as for Embedder.encode. Media stand where the text has
      <|IMAGE|> or <|VIDEO|>, else in front of it, and nothing is added.
    suffixes: S texts, or data.types.Items of a text, whose ids name them.
    model: a Generator, or what jaxret.load_generator opens.
    pairs: int [N, 2], (prefix, suffix) each; None = all.
    per_token: gives a PerToken.
    reduction: 'sum' over the tokens of a suffix, or their 'mean'.
    chat: the prefix is what a user says, in the template of the backbone, and
      the suffix the beginning of its answer.
    mask_media: P(suffix | prefix with the keys of its media masked), all
      positions as they are: the prior of candidate prior normalization (BLiM,
      arXiv 2507.23284, section 3.3). Media are then not read.
    rows, columns: prefixes and suffixes of a tile.
    on_error: 'raise', or 'skip': a prefix or suffix that cannot be used is
      reported, and its numbers are NaN. Or a function that is called with the
      error then.
    show_progress: a bar on standard error.

  Returns:
    float32 [P, S], or [N]; or a PerToken.

  Raises:
    ValueError: one line that names what cannot be used.
  """
  failed = reading.reaction(on_error)
  _check(reduction, rows, columns)
  prefixes = _several('prefixes', prefixes)
  suffixes = _several('suffixes', suffixes)
  wanted = None if pairs is None else _pairs(
      pairs, len(prefixes), len(suffixes))
  if not isinstance(model, generator.Generator):
    model = loading.load_generator(model)
  tokens = _suffixes(model.reader, suffixes, failed)
  items = _prefixes(prefixes, failed)
  how = _How(chat, mask_media, rows, columns, failed, show_progress)
  return _scored(model, items, tokens, wanted, per_token, reduction, how)


class _How(NamedTuple):
  """Options of score_sequences; failed: what is done with an error."""
  chat: bool
  mask_media: bool
  rows: int
  columns: int
  failed: Callable[[ValueError], None]
  show_progress: bool


def _scored(model, prefixes, suffixes, wanted, per_token, reduction, how):
  """What score_sequences gives, of what _prefixes and _suffixes give."""
  (items, rows_of), (labels, columns_of) = prefixes, suffixes
  if wanted is None:
    places = rows_of[:, None], columns_of[None]
  else:
    places = rows_of[wanted[:, 0]], columns_of[wanted[:, 1]]
  cells = _Cells(len(items), labels, per_token,
                 None if wanted is None else places)
  _fill(cells, model, items, how)
  found = cells.at(*places, reduction)
  if not per_token:
    return found
  pieces = [tuple(model.reader.decode([i]) for i in ids) for ids in labels]
  return PerToken(found, tuple(pieces[i] if i >= 0 else () for i in columns_of),
                  cells.tokens_at(*places))


def _check(reduction, rows, columns):
  if min(rows, columns) < 1:
    raise ValueError(f'got rows = {rows}, columns = {columns}; want 1 at least')
  if reduction not in REDUCTIONS:
    raise ValueError(
        f'reduction is {reduction!r}; want one of {", ".join(REDUCTIONS)}')


def _several(what, given):
  if isinstance(given, (str, bytes, dict)) or embedder.is_one(given):
    raise ValueError(f'{what}: got one {type(given).__name__}, want a list')
  given = list(given)
  if not given:
    raise ValueError(f'{what}: got none, want one at least')
  return given


def _pairs(pairs, n_prefixes, n_suffixes):
  """int64 [N, 2], checked."""
  pairs = np.asarray(pairs)
  if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or (
      not np.issubdtype(pairs.dtype, np.integer)):
    raise ValueError(f'pairs: got {pairs.dtype} of shape {pairs.shape}, want '
                     'integers [N, 2], a prefix and a suffix each')
  for place, count, what in ((0, n_prefixes, 'prefix'),
                             (1, n_suffixes, 'suffix')):
    wrong = np.flatnonzero((pairs[:, place] < 0) | (pairs[:, place] >= count))
    if len(wrong):
      raise ValueError(f'pair {wrong[0]}: got {what} {pairs[wrong[0], place]}, '
                       f'want one of 0 to {count - 1}')
  return pairs.astype(np.int64)


def _suffixes(reader, texts, failed):
  """(the different suffixes in order of their tokens, number of each text).

  A number is -1 where a text cannot be used.
  """
  ids = []
  for index, text in enumerate(texts):
    name = f'suffix {index}'
    if isinstance(text, types.Item):
      name, text = text.id, text.text
    try:
      ids.append(tuple(reader.suffix(text, name).tolist()))
    except ValueError as error:
      failed(error)
      ids.append(None)
  different = sorted(set(ids) - {None})
  number = {one: i for i, one in enumerate(different)} | {None: -1}
  return ([np.array(one, np.int32) for one in different],
          np.array([number[one] for one in ids]))


def _prefixes(given, failed):
  """(the different items in order of what they hold, number of each).

  Whatever order things are given in, they are then tiled alike.
  """
  keys, items = [], {}
  for index, one in enumerate(given):
    try:
      item = embedder.as_item(one, index, 'prefix')
      # An order that lacks a modality would leave it out of the key.
      key = store.key(dataclasses.replace(item, order=types.Item.order), None)
      items.setdefault(key, item)
    except ValueError as error:
      failed(error)
      key = None
    keys.append(key)
  number = {key: i for i, key in enumerate(sorted(items))} | {None: -1}
  return ([items[key] for key in sorted(items)],
          np.array([number[key] for key in keys]))


class _Cells:
  """The numbers of all different pairs, or of those that are wanted.

  same: int [D + 1], which of the D prompts stands for each; -1 for -1.
  """

  def __init__(self, n_prompts, labels, per_token, wanted):
    self.labels, self._codes = labels, None
    self.same = np.append(np.arange(n_prompts), -1)
    size = n_prompts * len(labels)
    if wanted is not None:
      codes = wanted[0] * len(labels) + wanted[1]
      self._codes = np.unique(codes[(wanted[0] >= 0) & (wanted[1] >= 0)])
      size = len(self._codes)
    self.size = size
    self._sum = np.full(size + 1, np.nan, np.float32)  # the last is no pair
    self._put = np.zeros(size + 1, bool)
    self._tokens = np.empty(size + 1, object) if per_token else None

  def of(self, prompt):
    """The suffixes that are wanted of a prompt, int [n]."""
    count = len(self.labels)
    if self._codes is None:
      return np.arange(count)
    first, last = np.searchsorted(
        self._codes, (prompt * count, (prompt + 1) * count))
    return self._codes[first:last] - prompt * count

  @property
  def all_wanted(self):
    return self._codes is None

  def _place(self, prompts, suffixes):
    prompts = self.same[prompts]
    codes = prompts * len(self.labels) + suffixes
    place = codes if self._codes is None else (
        np.searchsorted(self._codes, codes))
    return np.where((prompts < 0) | (suffixes < 0), self.size, place)

  def put(self, prompts, tile, values):
    """Values [>= n, C, L] of a Tile for prompts int [n]; returns how many."""
    shape = len(prompts), tile.real.shape[-1]
    index, real = (
        np.broadcast_to(x[:len(prompts)] if x.ndim == 2 else x, shape)
        for x in (tile.index, tile.real))
    row, column = np.nonzero(real)
    place = self._place(np.asarray(prompts)[row], index[row, column])
    values = values[row, column]
    self._sum[place] = values.sum(-1, dtype=np.float64)
    self._put[place] = True
    if self._tokens is not None:
      for at, value, suffix in zip(place, values, index[row, column]):
        self._tokens[at] = value[:len(self.labels[suffix])].copy()
    return len(place)

  def broken(self):
    """The prompts of which a number that was put is not finite, int [n]."""
    place = np.flatnonzero(self._put & ~np.isfinite(self._sum))
    codes = place if self._codes is None else self._codes[place]
    return np.unique(codes // max(len(self.labels), 1))

  def at(self, prompts, suffixes, reduction):
    """float32, like the broadcast of both: their log-likelihoods."""
    value = self._sum[self._place(prompts, suffixes)]
    value = np.where(np.isfinite(value), value, np.float32(np.nan))
    if reduction == 'mean':
      lengths = np.array([*map(len, self.labels), 1], np.float32)
      value = value / lengths[suffixes]
    return value

  def tokens_at(self, prompts, suffixes):
    """The same of the single tokens; NaN where there is no number."""
    place, suffix = np.broadcast_arrays(
        self._place(prompts, suffixes), suffixes)
    lengths = np.array([*map(len, self.labels), 0])
    out = np.empty(place.shape, object)
    for at in np.ndindex(place.shape):
      value = self._tokens[place[at]]
      out[at] = value if np.isfinite(self._sum[place[at]]) else (
          np.full(lengths[suffix[at]], np.nan, np.float32))
    return out


def _fill(cells, model, items, how):
  """Scores what is wanted, tile by tile, one tile behind the device."""
  with tqdm.tqdm(total=cells.size, desc='scoring', unit='pair',
                 unit_scale=True, disable=not how.show_progress) as progress:
    running = None
    for numbers, tile, values in _tiles(cells, model, items, how):
      previous, running = running, (numbers, tile, values)
      _finish(cells, previous, progress)
    _finish(cells, running, progress)
  for number in cells.broken():
    how.failed(ValueError(
        f'{items[number].id}: its log-likelihoods are not finite; the weights '
        'are damaged, or overflow in this dtype'))


def _finish(cells, running, progress):
  """Waits for the values of a tile and writes them to their places."""
  if running is not None:
    numbers, tile, values = running
    progress.update(cells.put(numbers, tile, sharding.to_host(values)))


def _tiles(cells, model, items, how):
  """Starts one tile after the other: (numbers of the rows, Tile, values)."""
  parts = model.continuation, model.params, model.mesh
  tiles = (sequences.shared(cells.labels, how.columns)
           if cells.all_wanted else None)
  for shape, group in _groups(cells, model, items, how):
    numbers, prompts = map(list, zip(*group))
    shards = sharding.batch_shards(model.mesh)
    more = batches.doubled_rows(len(group), shards) - len(group)
    prefix = sequences.read(*parts, model.reader.pad(
        prompts + prompts[-1:] * more, shape))
    wanted = [cells.of(number) for number in numbers + numbers[-1:] * more]
    for tile in tiles or sequences.own(cells.labels, wanted, how.columns):
      yield numbers, tile, sequences.score(*parts, prefix, tile)


def _groups(cells, model, items, how):
  """Yields (shape, [(number, prompt)]), at most `rows` of one bucket.

  The order is that of the items, so that groups are always the same.
  """
  rows = max(how.rows, sharding.batch_shards(model.mesh))
  read = model.reader.masked if how.mask_media else model.reader
  waiting = collections.defaultdict(list)
  order = [i for i in range(len(items)) if len(cells.of(i))]
  order.sort(key=lambda i: len(cells.of(i)))  # rows that want as many
  first = {}
  for number, prompt in reading.usable(
      reading.read_ahead(lambda i: read(items[i], how.chat), order,
                          reading.READ_AHEAD * rows),
      lambda i: items[i].id, how.failed):
    if how.mask_media and cells.all_wanted:  # what differed was masked
      cells.same[number] = first.setdefault(_digest(prompt), number)
      if cells.same[number] != number:
        continue
    shape = model.reader.bucket(prompt)
    waiting[shape].append((number, prompt))
    if len(waiting[shape]) == rows:
      yield shape, waiting.pop(shape)
  for shape, group in waiting.items():
    for part in batches.parts(group, sharding.batch_shards(model.mesh),
                              batches.doubled_rows):
      yield shape, part


def _digest(prompt):
  """What stands for a masked prompt."""
  digest = hashlib.sha256()
  for part in (prompt.tokens, prompt.positions):
    digest.update(f'{part.shape}'.encode() + part.tobytes())
  return digest.digest()
