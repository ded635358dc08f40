"""What an index holds: a table of LanceDB, and what is said of it.

  index.jaxret    JSON: the model, the source, how windows are cut
  items.lance/    the table: a row for each image, text, and window of a video
  search/         the same rows as arrays, as of the last finished run: read in
                  milliseconds, where importing LanceDB alone takes seconds;
                  on the local disk, see places
  skipped.jsonl   what was left out, and why

A run adds whole files only, each block in one step that is there or not.
"""
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from absl import logging

from jaxret import files, own_files
from jaxret.data import sources
from jaxret.indexing import places, walk

NAME, TABLE, SEARCH, SKIPPED = (
    'index.jaxret', 'items', 'search', 'skipped.jsonl')
FORMAT = 1
ANN_REFINED = 4  # times as many rows are compared by their whole vectors
MOST_EXACT = 4_000_000  # rows that a search looks at one by one
PRECISIONS = {'float32': pa.float32(), 'float16': pa.float16()}
REMEDY = 'index anew into another directory'
COLUMNS = (
    ('file', pa.int64()), ('path', pa.string()), ('kind', pa.string()),
    ('start_s', pa.float64()), ('end_s', pa.float64()),
    ('duration_s', pa.float64()), ('size', pa.int64()),
    ('mtime_ns', pa.int64()), ('sha256', pa.string()),
    ('caption', pa.string()), ('text', pa.string()))


class Description(NamedTuple):
  """index.jaxret. model: see identity.of_model. opened: {'path', 'options' of
  jaxret.load, 'files'}, None of an Embedder. root, follow_links: see walk.
  """
  model: dict[str, Any]
  opened: dict[str, Any] | None
  root: str
  follow_links: bool
  window_s: float
  stride_s: float
  precision: str
  format: int = FORMAT


Where: TypeAlias = str | os.PathLike | places.Place


def describe(where: Where, made: Description) -> None:
  """Writes the Description of an index."""
  places.of(where).write(NAME, json.dumps(made._asdict(), indent=2).encode())


def described(where: Where) -> Description:
  """The Description of an index; ValueError where there is none."""
  data = places.of(where).read(NAME)
  if data is None:
    raise ValueError(f'{where}: no index is there (no {NAME}); make it: '
                     f'jaxret index FOLDER --model=MODEL --out={where}')
  name = f'{where}/{NAME}'
  found = own_files.object_of(data, name, REMEDY)
  if found.get('format') != FORMAT or set(found) != set(Description._fields):
    raise ValueError(f'{name}: got an index of format {found.get("format")!r}, '
                     f'want {FORMAT}: {REMEDY}')
  return Description(**found)


def schema(width: int, precision: str) -> pa.Schema:
  """Of the table; vectors of `width` numbers."""
  return pa.schema([*(pa.field(*column) for column in COLUMNS), pa.field(
      'vector', pa.list_(PRECISIONS[precision], width))])


def lancedb() -> Any:
  """The module; ValueError that says how to install it."""
  try:
    import lancedb as module
  except ImportError:
    raise ValueError("an index needs LanceDB: pip install -e '.[index]'"
                     ) from None
  return module


class Table:
  """The table of an index, for who writes it.

  made: its Description. check: is called before each write, see Place.held.
  """

  def __init__(self, where: Where, made: Description,
               check: Callable[[], None] = lambda: None):
    self.place, self._check = places.of(where), check
    self.schema = schema(made.model['width'], made.precision)
    database = lancedb().connect(str(self.place))
    if newest(self.place) is None:
      check()
      self._table = database.create_table(TABLE, schema=self.schema)
    else:
      name = f'{self.place}/{TABLE}.lance'
      try:
        self._table = database.open_table(TABLE)
      except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(f'{name} is damaged ({sources.cause(error):.200}); '
                         f'{REMEDY}') from error
      if self._table.schema != self.schema:
        raise ValueError(f'{name} has other columns than an index has; '
                         f'{REMEDY}')

  def files(self) -> pa.Table:
    """Columns file, path, size, mtime_ns, sha256, caption of each file."""
    names = ['file', 'path', 'size', 'mtime_ns', 'sha256', 'caption']
    rows = self._table.search().select(names).limit(
        max(1, len(self))).to_arrow().select(names)
    _, first = np.unique(rows['file'].to_numpy(), return_index=True)
    return rows.take(first)

  def of_file(self, number: int) -> pa.Table:
    """The rows of a file, without vectors."""
    names = [name for name, _ in COLUMNS]
    return self._table.search().where(f'file = {int(number)}').select(
        names).limit(max(1, len(self))).to_arrow().select(names)

  def __len__(self) -> int:
    return self._table.count_rows()

  def add(self, rows: Sequence[dict[str, Any]], vectors: np.ndarray) -> None:
    """Adds rows of whole files; all of them, or if killed none."""
    made = pa.table(
        {name: pa.array([row.get(name) for row in rows], kind)
         for name, kind in COLUMNS} | {'vector': pa.FixedSizeListArray
            .from_arrays(pa.array(np.ascontiguousarray(
                vectors, self.schema.field('vector').type.value_type
                .to_pandas_dtype()).ravel()), vectors.shape[1])},
        schema=self.schema)
    self._check()
    self._table.add(made)

  def remove(self, numbers: Iterable[int]) -> None:
    """Removes the rows of files by their numbers, `file`."""
    numbers = [str(int(number)) for number in numbers]
    for first in range(0, len(numbers), 1000):
      self._check()
      self._table.delete(f'file IN ({", ".join(numbers[first:first + 1000])})')

  def update(self, number: int, **values: Any) -> None:
    """Changes what is said of a file, not its vectors."""
    self._check()
    self._table.update(where=f'file = {int(number)}', values=values)

  def finish(self) -> None:
    """Joins the blocks, and writes `search/` for at most MOST_EXACT rows."""
    import datetime
    self._check()
    self._table.optimize(cleanup_older_than=datetime.timedelta(hours=1))
    if len(self) <= MOST_EXACT:
      snapshot(self.place, self._table.to_arrow())
    else:
      shutil.rmtree(self.place.near / SEARCH, ignore_errors=True)

  def build_ann(self, n_rows: int) -> None:
    """Trains LanceDB's approximate index of the vectors."""
    from lancedb import index
    self._check()
    self._table.create_index('vector', config=index.HnswSq(
        distance_type='cosine', num_partitions=max(1, n_rows >> 16)))

  def has_ann(self) -> bool:
    return bool(self._table.list_indices())

  def nearest(self, vector: np.ndarray, k: int, where: str | None,
              probes: int, looked_at: int) -> pa.Table:
    """About the k nearest rows, with `_distance`, by LanceDB."""
    query = self._table.search(vector).distance_type('cosine').nprobes(
        probes).ef(looked_at).refine_factor(ANN_REFINED).limit(k)
    if where:
      query = query.where(where, prefilter=True)
    return query.to_arrow()

  def rows(self) -> pa.Table:
    """All that there is."""
    return self._table.to_arrow()


def newest(where: Where) -> str | None:
  """What changes with every change of the table; None where there is none.

  LanceDB names a version by what is left of 2**64, in twenty digits, so that
  the newest comes first.
  """
  states = places.of(where).states(f'{TABLE}.lance/_versions')
  names = sorted(name for name in states if name.endswith('.manifest'))
  if not names:
    return None
  if not all(len(name) == 29 for name in names):
    return ''
  state = states[names[0]]
  return names[0].removesuffix('.manifest') + (state and '-' + hashlib.sha256(
      state.encode()).hexdigest()[:16])


def snapshot(where: Where, rows: pa.Table) -> None:
  """Writes `search/` from all rows of the newest version."""
  place = places.of(where)
  name = newest(place)
  if name:
    _snapshot(place, rows, name)


def _snapshot(place, rows, name):
  folder = place.near / SEARCH
  new = folder / name
  shutil.rmtree(new, ignore_errors=True)
  new.mkdir(parents=True)
  files.save_atomically(new / 'vectors.npy', lambda file: np.save(
      file, _matrix(rows)))
  said = rows.drop_columns(['vector']).combine_chunks()
  def save(file):
    with pa.ipc.new_file(file, said.schema) as writer:
      writer.write_table(said)
  files.save_atomically(new / 'rows.arrow', save)
  files.write_atomically(folder / 'newest.json', json.dumps({
      'version': name, 'crc32': _sums(new)}))
  for old in folder.iterdir():
    if old.is_dir() and old != new:
      shutil.rmtree(old, ignore_errors=True)


def _sums(folder):
  """{file: checksum} of what a search reads."""
  return {name: own_files.checksum(np.memmap(folder / name, np.uint8, 'r'))
          for name in ('vectors.npy', 'rows.arrow')}


def _matrix(rows):
  """The vectors of a table, [C, D]."""
  column = rows['vector'].combine_chunks()
  width = column.type.list_size
  return column.flatten().to_numpy().reshape(-1, width)


class Rows(NamedTuple):
  """All rows of an index at one version. vectors: [C, D]; said: the others."""
  version: str
  said: pa.Table
  vectors: np.ndarray


def read(where: Where) -> Rows:
  """The Rows of the newest version: of `search/`, or of the table itself."""
  place = places.of(where)
  for _ in range(3):  # a run that ends just now replaces them
    version = newest(place)
    if version is None:
      raise ValueError(f'{place}: the index holds nothing yet: run jaxret '
                       'index again')
    try:
      kept = own_files.read_object(place.near / SEARCH / 'newest.json')
      if kept.get('version') != version:
        break
      folder = place.near / SEARCH / version
      if kept.get('crc32') != _sums(folder):
        logging.warning('%s is damaged: the table itself is read', folder)
        break
      with pa.memory_map(str(folder / 'rows.arrow')) as file:
        said = pa.ipc.open_file(file).read_all()
      return Rows(version, said, np.load(folder / 'vectors.npy',
                                         mmap_mode='r'))
    except (OSError, ValueError, pa.ArrowInvalid):
      continue
  rows = Table(place, described(place)).rows()
  if place.near != place.path and version and len(rows) <= MOST_EXACT and (
      newest(place) == version):  # rows are of no older one, and of no newer
    try:
      _snapshot(place, rows, version)
    except OSError as error:  # another process does the same, or it is full
      logging.info('%s is not kept in %s (%s)', place, place.near, error)
  return Rows(version, rows.drop_columns(['vector']), _matrix(rows))


def is_current(where: Where) -> bool:
  """Whether `search/` is of the newest version."""
  place = places.of(where)
  path = place.near / SEARCH / 'newest.json'
  return path.is_file() and own_files.read_object(path).get(
      'version') == newest(place)


def write_skipped(where: Where, skipped: Sequence[walk.Skipped]) -> None:
  """What was left out, a JSON object on each line."""
  places.of(where).write(SKIPPED, ''.join(
      json.dumps({name: value for name, value in one._asdict().items()
                  if value is not None}) + '\n' for one in skipped).encode())


def read_skipped(where: Where) -> list[walk.Skipped]:
  """The same, read; what is damaged is none."""
  try:
    return [walk.Skipped(**line) for line in own_files.lines_of(
        places.of(where).read(SKIPPED) or b'', f'{where}/{SKIPPED}')]
  except (ValueError, TypeError) as error:
    logging.warning('%s: files that were left out are tried again (%s)',
                    where, error)
    return []
