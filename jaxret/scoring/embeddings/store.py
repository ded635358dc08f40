"""Embeddings on disk, found again by what was embedded."""
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from absl import logging
from numpy.typing import ArrayLike
from tqdm import tqdm

from jaxret import files, own_files, processes
from jaxret.data import clips, images, sources, types

# (items, prompt) -> float [n, D]
Encode: TypeAlias = Callable[[list[types.Item], str | None], ArrayLike]


def key(item: types.Item, prompt: str | None) -> bytes:
  """16 bytes that stand for an item's content and the prompt it is given.

  The id does not count: one caption, image or clip that serves several tasks
  is embedded once. A path stands for its file's size and time of change.
  """
  digest = hashlib.sha256()
  def add(part):
    if isinstance(part, tuple):
      digest.update(f'({len(part)}'.encode())
      for element in part:
        add(element)
      return
    if images.is_pil(part):
      part = _pixels(part)
    if isinstance(part, np.ndarray):
      add(f'{part.shape}{part.dtype}')
      part = np.ascontiguousarray(part).tobytes()
    data = part if isinstance(part, bytes) else str(part).encode()
    digest.update(f'{type(part).__name__}{len(data)}:'.encode())
    digest.update(data)
  add('' if prompt is None else f'prompt {prompt}')
  for name in item.order:
    part = getattr(item, name)
    if part is not None:
      add(name)
      add(part)
      if name != 'text':
        add(_state(part if isinstance(part, tuple) else (part,)))
  return digest.digest()[:16]


def _pixels(image):
  """All that can be seen of a PIL image, uint8 [2, H, W, 3]."""
  try:
    return np.stack([images.of_pil(image, 'a PIL image', alpha)
                     for alpha in images.ALPHA])
  except sources.MediaError:
    return np.zeros(0, np.uint8)  # the encoder will say it better


def _state(medium):
  """Of a file its size and time of change; of several a tuple."""
  if isinstance(medium, (tuple, list)):
    return tuple(map(_state, medium))
  if isinstance(medium, clips.Clip):
    medium = medium.source
  try:
    state = (sources.state(medium)
             if isinstance(medium, (str, os.PathLike)) else None)
  except OSError:
    state = None  # the encoder will say it better
  return '' if state is None else f'{state[0]} {state[1]}'


@dataclasses.dataclass(frozen=True)
class Rows:
  """Embeddings of a collection, read from disk when sliced: [slice] -> [n, D].

  index: int64 [N], where each row lies in the store; -1 = left out, NaN.
  """
  store: 'Embeddings'
  index: np.ndarray

  @property
  def shape(self) -> tuple[int, int | None]:
    return len(self.index), self.store.width

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    return self.store.read(self.index[index])


class Embeddings:
  """A directory of embeddings, filled block by block; a block stays.

  fingerprint: flat dict of what embeddings depend on besides the item and its
    prompt: weights, preprocessing. Each fingerprint has its own folder, so
    that several models share a directory and nothing stale is read.
  A block is one file of rows (key, checksum, vector) that is there as a whole
  and never replaced: runs that share a directory number theirs one after the
  other. A row that does not have its checksum is embedded again. With several
  processes of one run process 0 alone reads and writes, all of them embed.
  """

  def __init__(self, directory: str | os.PathLike,
               fingerprint: Mapping[str, Any]):
    text = json.dumps(fingerprint, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    self.directory = pathlib.Path(directory) / name
    self.width: int | None = None
    self._vectors: list[np.ndarray] = []
    self._starts = [0]
    self._index: dict[bytes, int] = {}  # of the keys
    if jax.process_index() == 0:
      self.directory.mkdir(parents=True, exist_ok=True)
      files.write_atomically(self.directory / 'fingerprint.json', text)
      self._open()

  def rows(self, items: Sequence[types.Item], prompt: str | None,
           encode: Encode, block_items: int = 1024) -> Rows | None:
    """Rows of all items, of which the missing ones are embedded first.

    encode: (items, prompt) -> float [n, D]; a row of NaN leaves the item out,
      and it is tried again in the next run. Called with at most `block_items`
      items, each content once.
    Returns Rows, or None on processes other than the first.
    Errors: ValueError for a wrong shape, or numbers that are not finite.
    """
    keys = [key(item, prompt) for item in items]
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1)))
    missing = [i for k, i in first.items() if k not in self._index]
    missing = _of_first_process(np.sort(np.array(missing, np.int64)))
    for start in tqdm(range(0, len(missing), block_items), 'embedding',
                      unit='block', file=sys.stderr,
                      disable=len(missing) <= block_items):
      block = missing[start:start + block_items]
      vectors = np.asarray(encode([items[i] for i in block], prompt))
      kept = _check(vectors, [items[i] for i in block])
      if jax.process_index() == 0 and kept.any():
        self._append([keys[i] for i in block[kept]], vectors[kept])
    if jax.process_index():
      return None
    return Rows(self, np.array([self._index.get(k, -1) for k in keys],
                               np.int64))

  def rows_by_prompt(
      self, items: Sequence[types.Item], prompts: Sequence[str | None],
      encode: Encode, block_items: int = 1024) -> Rows | None:
    """As `rows`, each item with a prompt of its own: prompts[i]."""
    index, rows = np.full(len(items), -1, np.int64), None
    groups: dict[str | None, list[int]] = {}
    for i, prompt in enumerate(prompts):
      groups.setdefault(prompt, []).append(i)
    for prompt, members in groups.items():
      rows = self.rows(
          [items[i] for i in members], prompt, encode, block_items)
      if rows is not None:
        index[members] = rows.index
    return rows and Rows(self, index)

  def read(self, index: ArrayLike) -> np.ndarray:
    """The vectors at `index` (int [n]), float32 [n, D]; NaN where it is -1."""
    assert self.width is not None  # an index comes of what is stored
    index = np.asarray(index)
    vectors = np.full((len(index), self.width), np.nan, np.float32)
    block = np.searchsorted(self._starts, index, 'right') - 1
    for b in np.unique(block[index >= 0]):
      in_block = block == b
      vectors[in_block] = self._vectors[b][
          index[in_block] - self._starts[b]]
    return vectors

  def _file(self):
    """The next block's file."""
    return self.directory / f'{len(self._vectors):06d}.npy'

  def _append(self, keys, vectors):
    self._check_width(vectors.shape[1])
    block = np.zeros(len(keys), _row_type(vectors.shape[1]))
    block['key'] = np.frombuffer(b''.join(keys), np.uint8).reshape(-1, 16)
    block['vector'] = vectors
    block['crc32'] = _sums(block)
    while not files.save_new(self._file(), lambda file: np.save(file, block)):
      self._open()  # another run has written a block of this number
    self._open()

  def _open(self):
    """Takes in the blocks that are on disk and not known yet."""
    while self._file().exists():
      path = self._file()
      block = _read(path)
      self._check_width(block['vector'].shape[1])
      whole = block['crc32'] == _sums(block)
      if not whole.all():
        logging.warning('%s: %d of %d embeddings do not have their checksum: '
                        'the file is damaged, they are made again', path,
                        (~whole).sum(), len(block))
      start = self._starts[-1]
      self._index.update((block['key'][i].tobytes(), start + int(i))
                         for i in np.flatnonzero(whole))
      self._vectors.append(block['vector'])
      self._starts.append(start + len(block))

  def _check_width(self, width):
    if self.width not in (None, width):
      raise ValueError(
          f'{self.directory} holds embeddings {self.width} wide, the model '
          f'gives {width}; its fingerprint must tell the two apart')
    self.width = width


def _row_type(width):
  return np.dtype([('key', 'u1', (16,)), ('crc32', '<u4'),
                   ('vector', '<f4', (width,))])


def _sums(block):
  """The checksums of rows as they should be, uint32 [n]."""
  keys, vectors = block['key'], np.asarray(block['vector'])
  return np.array([own_files.checksum(keys[i].tobytes() + vectors[i].tobytes())
                   for i in range(len(block))], np.uint32)


def _read(path):
  """A block, memory-mapped; ValueError naming the file if it is cut."""
  remedy = 'remove its directory, and they are embedded again'
  try:
    width = np.load(path, mmap_mode='r').dtype['vector'].shape[0]
  except (ValueError, EOFError, KeyError, OSError) as error:
    raise ValueError(f'{path} is damaged: no block of embeddings ({error}); '
                     f'{remedy}') from error
  return own_files.read_array(path, _row_type(width), (None,), remedy, 'r')


def _of_first_process(indices):
  """What process 0 says, on all of them."""
  if jax.process_count() == 1:
    return indices
  size = int(processes.of_first(np.int32(len(indices))))
  return processes.of_first(np.resize(indices, size))


def _check(vectors, items):
  """Which rows hold an embedding, bool [n]."""
  if vectors.ndim != 2 or len(vectors) != len(items):
    raise ValueError(f'the encoder gave the shape {vectors.shape} for '
                     f'{len(items)} items; wanted [{len(items)}, D]')
  finite = np.isfinite(vectors).all(1)
  left_out = np.isnan(vectors).all(1)
  wrong = np.flatnonzero(~finite & ~left_out)
  if wrong.size:
    raise ValueError(f'the embedding of {items[wrong[0]].id!r} is not finite; '
                     'check the weights')
  return finite
