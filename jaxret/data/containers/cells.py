"""Cells of tables that hold media: parquet, and Arrow as `datasets` saves it.

A cell is the bytes of a medium, or {'bytes', 'path'} of it, or a list of such.
Arrow files are mapped into memory. Of parquet whole row groups are decoded;
those that were last used are kept, and groups that are too large for that are
decoded once into an Arrow file of the cache.
"""
import bisect
import contextlib
import functools
import os
import threading

from jaxret.data.containers import kept, streamed

ENDINGS = '.parquet', '.arrow'
# Decoded bytes of a row group's column that are kept in memory, of eight.
LARGEST_GROUP = 16 << 20
_KEPT = 8
_lock = threading.Lock()


def read(path, row, column, entry=None):
  """The bytes of a medium.

  entry: of a cell that is a list. Errors: FileNotFoundError where there is no
  such cell or nothing in it; ValueError for what holds no bytes.
  """
  file = _open(os.fspath(path), state(path))
  if column not in file.columns:
    raise FileNotFoundError(f'no column {column!r}')
  if not 0 <= row < file.n_rows:
    raise FileNotFoundError(f'no row {row} of {file.n_rows}')
  with _said(path):
    value = file.cell(row, column)
  if entry is not None:
    if not isinstance(value, list) or not 0 <= entry < len(value):
      raise FileNotFoundError(f'no entry {entry}')
    value = value[entry]
  value = value.get('bytes') if isinstance(value, dict) else value
  if value is None:
    raise FileNotFoundError('an empty cell')
  if not isinstance(value, bytes):
    raise ValueError(f'a cell of {type(value).__name__}, not of bytes')
  return value


def arrow(path):
  """The Arrow of a file, opened once."""
  return _open(path, state(path))


def state(path):
  """(size, time of change in ns) of a table."""
  found = os.stat(path)
  return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _open(path, state):
  with _said(path):
    return (_Parquet if path.endswith('.parquet') else Arrow)(path)


@contextlib.contextmanager
def _said(path):
  import pyarrow  # slow to import
  try:
    yield
  except (pyarrow.ArrowException, OSError, IndexError) as error:
    if isinstance(error, FileNotFoundError):
      raise
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(f'{path} cannot be read ({reason}): download it again'
                     ) from None


class Arrow:
  """An Arrow file in either of its two forms, mapped into memory."""

  def __init__(self, path):
    import pyarrow
    mapped = pyarrow.memory_map(path)
    try:
      self._table = pyarrow.ipc.open_file(mapped).read_all()
    except pyarrow.ArrowInvalid:
      mapped.seek(0)
      self._table = pyarrow.ipc.open_stream(mapped).read_all()
    self._table.validate()
    self.columns, self.n_rows = self._table.column_names, len(self._table)
    self.schema = self._table.schema
    self._checked = set()

  def column(self, name):
    values = self._table.column(name)
    if name not in self._checked:
      values.validate(full=True)  # no offset leads out of the file
      self._checked.add(name)
    return values

  def cell(self, row, column):
    return self.column(column)[row].as_py()


class _Parquet:
  """A parquet file, of which one column of one row group is read at a time."""

  def __init__(self, path):
    import pyarrow.parquet
    self._path = path
    # Of each call its own: a reader is for one thread.
    self.metadata = pyarrow.parquet.read_metadata(streamed.opened(path))
    self.columns = self.metadata.schema.to_arrow_schema().names
    self.n_rows, self._starts = self.metadata.num_rows, [0]
    for g in range(self.metadata.num_row_groups):
      self._starts.append(
          self._starts[-1] + self.metadata.row_group(g).num_rows)

  def cell(self, row, column):
    group = bisect.bisect_right(self._starts, row) - 1
    place = self._path, state(self._path), group, column
    row -= self._starts[group]
    if self._n_bytes(group, column) > LARGEST_GROUP:
      return _unpacked(*place).cell(row, column)
    return _group(*place)[row].as_py()

  def _n_bytes(self, group, column):
    found = self.metadata.row_group(group)
    return sum(
        found.column(c).total_uncompressed_size
        for c in range(found.num_columns)
        if found.column(c).path_in_schema.partition('.')[0] == column)


def _reader(path, state):
  """A ParquetFile for one thread, which does not read what it is told again."""
  import pyarrow.parquet
  return pyarrow.parquet.ParquetFile(
      streamed.opened(path), metadata=_open(path, state).metadata)


def _group(path, state, group, column):
  with _lock:  # threads that want one group decode it once
    return _decoded(path, state, group, column)


@functools.lru_cache(maxsize=_KEPT)
def _decoded(path, state, group, column):
  with _reader(path, state) as file:
    return file.read_row_group(
        group, columns=[column], use_threads=False).column(0)


@functools.lru_cache(maxsize=64)
def _unpacked(path, state, group, column):
  """The Arrow of a column of a row group, made in the cache at first."""
  import pyarrow
  def write(partial):
    with _reader(path, state) as file, (
        pyarrow.ipc.new_file(partial, pyarrow.schema(
            [file.schema_arrow.field(column)]))) as out:
      for batch in file.iter_batches(16, [group], columns=[column]):
        out.write_batch(batch)
  return Arrow(str(kept.made('tables', '.arrow', (
      os.path.realpath(path), state, group, column), write)))
