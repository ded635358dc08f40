"""One table of rows: parquet, Arrow, lines of JSON, a list in JSON, CSV.

Media are not read here: of a cell that holds one only its name is known, and
whether its bytes are there.
"""
import functools
import json
import os
import pathlib
from typing import NamedTuple

from jaxret.data import containers, entries
from jaxret.data.containers import cells

ABOUT = b'huggingface'  # of a schema: what `datasets` knows of its columns
_ROWS_AT_ONCE = 16  # whose media are in memory


class Medium(NamedTuple):
  """What a cell says of a medium. name: its file's, or None."""
  name: str | None
  has_bytes: bool


class Table:
  """A file of rows, counted from 0.

  names: of the columns. kinds: {column: 'medium' or 'media' (a list) of
  encoded media, 'text', 'texts' or 'other'}. hints: {column: 'image', 'video'
  or what else `datasets` says that it holds}.
  Errors: ValueError that names the file.
  """

  def __init__(self, path):
    self.path = pathlib.Path(path)
    binary = self.path.suffix.lower() in cells.ENDINGS
    self._read = _Arrow(self.path) if binary else _Objects(self.path)
    self.names, self.kinds = self._read.names, self._read.kinds
    self.hints = self._read.hints

  def __len__(self):
    return len(self._read)

  def values(self, column):
    """The values of a column that holds no encoded media, one for each row."""
    return self._whole(column, self._read.values(column))

  def media(self, column):
    """Of each row a Medium, a list of Medium, or None of an empty cell."""
    return self._whole(column, self._read.media(column))

  def _whole(self, column, found):
    if len(found) != len(self):
      raise ValueError(
          f'{self.path}, column {column!r}: got {len(found)} values, wanted '
          f'{len(self)}, one for each row: download it again')
    return found

  def cell(self, row, column, entry=None):
    """The path of an encoded medium."""
    return containers.cell(self.path, row, column, entry)

  def where(self, row, column):
    """What a message calls a cell."""
    return f'{self.path}, row {row}, column {column!r}'


@functools.lru_cache(maxsize=64)
def _opened(path, state):
  return Table(path)


def opened(path):
  """The Table of a file; one that did not change is not read again."""
  return _opened(path, cells.state(path))


class _Objects:
  """Rows of texts: a list of objects in JSON or of one in each line, CSV."""

  def __init__(self, path):
    self._rows, self.hints = _objects(path), {}
    self.names = list(dict.fromkeys(key for row in self._rows for key in row))
    self.kinds = {name: self._kind(name) for name in self.names}

  def __len__(self):
    return len(self._rows)

  def _kind(self, name):
    found = next((row[name] for row in self._rows
                  if row.get(name) not in (None, [])), None)
    if isinstance(found, str):
      return 'text'
    if isinstance(found, list) and isinstance(found[0], str):
      return 'texts'
    return 'other'

  def values(self, column):
    return [row.get(column) for row in self._rows]


def _objects(path):
  ending = path.suffix.lower()
  if ending == '.json':
    found = entries.read_json(path)
    if isinstance(found, dict) and len(found) == 1:  # {"data": [...]}
      found = next(iter(found.values()))
    return entries.listed(path, found)
  if ending in ('.csv', '.tsv'):
    return entries.read_csv(path, (), '\t' if ending == '.tsv' else ',')
  return entries.read_json_lines(path)


class _Arrow:
  """Parquet, or Arrow that is mapped into memory."""

  def __init__(self, path):
    self._path = path
    if path.suffix.lower() == '.parquet':
      with entries.open_parquet(path) as file:
        schema, self._n = file.schema_arrow, file.metadata.num_rows
    else:
      table = cells.arrow(os.fspath(path))
      schema, self._n = table.schema, table.n_rows
    self.names = schema.names
    self.kinds = {field.name: _kind(field.type) for field in schema}
    self.hints = _hints(schema)

  def __len__(self):
    return self._n

  def _batches(self, column):
    if self._path.suffix.lower() != '.parquet':
      yield from cells.arrow(os.fspath(self._path)).column(column).chunks
      return
    with entries.open_parquet(self._path) as file:
      media = self.kinds[column] in ('medium', 'media')
      wanted = (media and _names_alone(file.metadata, column)) or column
      for batch in file.iter_batches(
          4096 if wanted != column or not media else _ROWS_AT_ONCE,
          columns=[wanted]):
        yield batch.column(0)

  def values(self, column):
    return [value for batch in self._read(column) for value in (
        batch.to_pylist())]

  def media(self, column):
    return [one for batch in self._read(column) for one in _media(batch)]

  def _read(self, column):
    import pyarrow
    try:
      yield from self._batches(column)
    except (pyarrow.ArrowException, OSError, IndexError) as error:
      raise ValueError(
          f'{self._path}, column {column!r} cannot be read '
          f'({" ".join(str(error).split())[:200]}): download it again'
          ) from None


def _names_alone(metadata, column):
  """The leaf of a parquet file that names media, all of whose bytes are there.

  None where there is no such leaf, or bytes may be lacking.
  """
  leaf = None
  for g in range(metadata.num_row_groups):
    for c in range(metadata.num_columns):
      found = metadata.row_group(g).column(c)
      name, _, rest = found.path_in_schema.partition('.')
      if name != column:
        continue
      if rest.endswith('path'):
        leaf = found.path_in_schema
      counted = found.statistics and found.statistics.null_count
      if rest.endswith('bytes') and counted != 0:
        return None
  return leaf


def _kind(type_):
  import pyarrow.types as is_
  if _is_medium(type_):
    return 'medium'
  if _is_list(type_):
    inner = type_.value_type
    return ('media' if _is_medium(inner) else
            'texts' if _is_text(inner) else 'other')
  if is_.is_dictionary(type_):
    return _kind(type_.value_type)
  return 'text' if _is_text(type_) else 'other'


def _is_list(type_):
  import pyarrow.types as is_
  return is_.is_list(type_) or is_.is_large_list(type_) or (
      is_.is_fixed_size_list(type_))


def _is_text(type_):
  import pyarrow.types as is_
  return is_.is_string(type_) or is_.is_large_string(type_)


def _is_bytes(type_):
  import pyarrow.types as is_
  return is_.is_binary(type_) or is_.is_large_binary(type_)


def _is_medium(type_):
  """{'bytes', 'path'} as `datasets` stores media, or bytes."""
  import pyarrow.types as is_
  return _is_bytes(type_) or is_.is_struct(type_) and any(
      field.name == 'bytes' and _is_bytes(field.type) for field in type_)


def _media(array):
  """Of each value of an array a Medium, a list of them, or None."""
  if _is_list(array.type):
    import pyarrow.compute
    flat, start, found = _media(array.flatten()), 0, []
    for length in pyarrow.compute.list_value_length(array).to_pylist():
      found.append(None if length is None else flat[start:start + length])
      start += length or 0
    return found
  there = array.is_valid().to_pylist()
  if _is_bytes(array.type):
    return [Medium(None, True) if one else None for one in there]
  has = {field.name for field in array.type}
  has_bytes = (array.field('bytes').is_valid().to_pylist() if 'bytes' in has
               else [True] * len(array))  # see _names_alone
  names = (array.field('path').to_pylist() if 'path' in has
           else [None] * len(array))
  return [Medium(name, given) if one and (given or name) else None
          for one, given, name in zip(there, has_bytes, names)]


def _hints(schema):
  """{column: kind of medium} that `datasets` wrote into a schema."""
  try:
    about = json.loads((schema.metadata or {}).get(ABOUT, b'{}'))
    features = about['info']['features']
    return {name: _hint(feature) for name, feature in features.items()
            if _hint(feature)}
  except (ValueError, KeyError, TypeError, AttributeError):
    return {}  # only hints


def _hint(feature):
  while isinstance(feature, list) or isinstance(feature, dict) and (
      feature.get('_type') in ('List', 'Sequence', 'LargeList')):
    feature = feature[0] if isinstance(feature, list) else feature['feature']
  kind = feature.get('_type') if isinstance(feature, dict) else None
  return kind.lower() if kind in ('Image', 'Video', 'Audio') else None
