"""Published files of any layout as a list of entries, checked one by one.

Texts are UTF-8; a byte order mark in front of one is no part of it. What is
wrong is a ValueError of one line that names the file and, where there are
several, the line or entry.
"""
import codecs
import csv
import gzip
import io
import json
import math
import os
import pathlib
import zlib

from jaxret.data import hub, sources, types
from jaxret.data.containers import streamed

_WORDS = {dict: 'an object', list: 'a list', str: 'a string', int: 'a number',
          float: 'a number', bool: 'a boolean', type(None): 'null'}


def root_of(root, name, wanted):
  """The directory of a benchmark's files; ValueError where there is none.

  root: a directory, or a data set of the hub, which is fetched: see hub.
  """
  if not root:
    raise ValueError(f'data.root is not set; give the directory of {name}: '
                     f'{wanted}')
  root = hub.local(root)
  if not root.is_dir():
    raise ValueError(f'data.root {root} is not a directory; {wanted}')
  return root


def present(root, name, wanted):
  """The path of a file under `root`; ValueError where it is missing."""
  path = root / name
  if not path.exists():
    raise ValueError(f'data.root {root} has no {name}; {wanted}')
  return path


def read_text(path):
  """The text of a file, its line ends as they are."""
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise _unreadable(path, error) from None
  return _decoded(data.removeprefix(codecs.BOM_UTF8), path, 1)


def lines(path):
  """Yields (number from 1, line) of a text file, or of one in a .gz file.

  Only \\n and \\r\\n end a line. What str.splitlines and Python's own text
  files take for an end besides, such as U+2028, U+0085, a vertical tab or a
  carriage return alone, is part of a caption: readers of many languages write
  such files, and few of them cut there.
  """
  path = pathlib.Path(path)
  open_ = gzip.open if path.suffix == '.gz' else open
  try:
    with open_(path, 'rb') as file:
      for number, data in enumerate(file, 1):
        if number == 1:
          data = data.removeprefix(codecs.BOM_UTF8)
        data = data.removesuffix(b'\n').removesuffix(b'\r')
        yield number, _decoded(data, path, number)
  except (OSError, EOFError, zlib.error) as error:
    raise _unreadable(path, error) from None


def _decoded(data, path, line):
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    line += data.count(b'\n', 0, error.start)
    raise ValueError(
        f'{path}, line {line}: not a text in UTF-8 ({error.reason}); save it '
        'as UTF-8') from None


def _unreadable(path, error):
  reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())
  return ValueError(f'{path} cannot be read ({reason})')


def read_json(path):
  """What a JSON file holds."""
  return _parsed(read_text(path), path)


def _parsed(text, where):
  """What a JSON text holds.

  NaN, which Python writes into such files, is read: a field of that value is
  refused where it is used. A key that is there twice with two values is an
  error, since one of them would be lost.
  """
  try:
    return _DECODER.decode(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{where} is not valid JSON: {error}') from None


def _object(pairs):
  found = dict(pairs)
  if len(found) < len(pairs):
    for key, value in pairs:
      if found[key] != value:
        raise ValueError(f'the key {key!r} is there twice, with two values')
  return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)  # to make one takes long


def listed(path, entries):
  """A list of objects, at least one long."""
  if not isinstance(entries, list) or not entries:
    got = 'an empty list' if entries == [] else kind(entries)
    raise ValueError(f'{path}: got {got}, wanted a list of objects')
  for i, entry in enumerate(entries):
    if not isinstance(entry, dict):
      raise wrong(path, i, kind(entry), 'an object')
  return entries


def read_json_lines(path):
  """One object per line, at least one; empty lines do not count."""
  return listed(path, [entry for _, entry in json_lines(path)])


def json_lines(path):
  """Yields (line number from 1, object) of a file of JSON lines."""
  for line, text in lines(path):
    if not text.strip():
      continue
    entry = _parsed(text, f'{path}, line {line}')
    if not isinstance(entry, dict):
      raise wrong_line(path, line, kind(entry), 'an object')
    yield line, entry


def read_csv(path, columns, separator=','):
  """The rows of a CSV file with a header, as dicts of strings."""
  # As csv wants it: line ends inside of quotes are those of the file.
  reader = csv.DictReader(io.StringIO(read_text(path), newline='\n'),
                          delimiter=separator)
  try:
    found = reader.fieldnames or []
    rows = list(reader)
  except csv.Error as error:
    reason = str(error).partition(' - ')[0]
    raise ValueError(f'{path}, line {reader.line_num + 1}: {reason}; quote the '
                     'text or mend it') from None
  _check_columns(path, found, columns)
  if not rows:
    raise ValueError(f'{path} has a header and no rows')
  for i, row in enumerate(rows):
    if None in row:
      raise wrong(path, i, f'{len(found) + len(row[None])} columns',
                  f'{len(found)}: quote a text that holds a comma')
  return rows


def usable(path, entries, read):
  """What can be used of the entries of a published file, and what cannot.

  read: (i, entry) -> what is made of entry i, counted from 0, or None where it
  is not wanted; its ValueError leaves the entry out.
  Returns ([what read gives], (types.LeftOut of each other)).
  Errors: the ValueError of the first where no entry can be used.
  """
  found, left_out = [], []
  for i, entry in enumerate(entries):
    try:
      found.append(read(i, entry))
    except ValueError as error:
      left_out.append(types.LeftOut(
          f'{pathlib.Path(path).name}:{i + 1}', str(error)))
  found = [one for one in found if one is not None]
  if left_out and not found:
    raise ValueError(left_out[0].reason)
  return found, tuple(left_out)


def read_parquet(path, columns, optional=()):
  """The rows of a parquet file as dicts.

  columns: that must be there; optional: that are read where they are.
  """
  import pyarrow  # slow to import
  with open_parquet(path) as file:
    names = file.schema_arrow.names
    _check_columns(path, names, columns)
    wanted = [*columns, *(name for name in optional if name in names)]
    try:
      return file.read(columns=wanted).to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
      raise _unreadable(path, error) from None


def parquet_rows(path, columns, rows_at_once):
  """Yields the same, of files whose media do not fit in memory together."""
  import pyarrow
  with open_parquet(path) as file:
    _check_columns(path, file.schema_arrow.names, columns)
    try:
      for batch in file.iter_batches(rows_at_once, columns=list(columns)):
        yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
      raise _unreadable(path, error) from None


def open_parquet(path):
  """The ParquetFile; ValueError for what is none."""
  import pyarrow
  import pyarrow.parquet
  try:
    return pyarrow.parquet.ParquetFile(streamed.opened(path))
  except (pyarrow.ArrowInvalid, OSError) as error:
    reason = ' '.join(str(error).split())
    raise ValueError(f'{path} is not a parquet file: {reason}') from None


def _check_columns(path, found, wanted):
  missing = [column for column in wanted if column not in found]
  if missing:
    names = ' '.join(', '.join(found).split())  # perhaps of several lines
    raise ValueError(f'{path} has the columns {names or "none"}; '
                     f'wanted {", ".join(wanted)}')


def field(path, i, entry, key, kinds=str):
  """entry[key], of one of the types `kinds`, not empty."""
  kinds = kinds if isinstance(kinds, tuple) else (kinds,)
  wanted = ' or '.join(_WORDS[k] for k in kinds)
  if key not in entry:
    raise wrong(path, i, f'fields {", ".join(entry) or "none"}',
                f'{key!r}, {wanted}')
  value = entry[key]
  # True is an int to Python, and no number to anyone else.
  if not isinstance(value, kinds) or (
      isinstance(value, bool) and bool not in kinds):
    raise wrong(path, i, f'{key!r} {kind(value)}', wanted)
  if isinstance(value, (str, list)) and not (
      value.strip() if isinstance(value, str) else value):
    raise wrong(path, i, f'{key!r} empty', wanted)
  if isinstance(value, str) and types.is_broken(value):
    raise wrong(path, i, f'{key!r} with a lone surrogate', 'a text')
  return value


def kind(value):
  """What a value of a file is, in words."""
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return _WORDS.get(type(value), f'a {type(value).__name__}')


def wrong(path, i, got, wanted):
  """The ValueError about entry i, counted from 0."""
  return _wrong(f'{path}, entry {i + 1}', got, wanted)


def wrong_line(path, line, got, wanted):
  """The ValueError about a line, counted from 1."""
  return _wrong(f'{path}, line {line}', got, wanted)


def _wrong(where, got, wanted):
  return ValueError(f'{where}: got {got}, wanted {wanted}')


def whole_number(text):
  """The number that a text says, '1' or '1.0'; None where it says no such."""
  try:
    number = float(text)
  except ValueError:
    return None
  return int(number) if number.is_integer() else None


def is_inside(name):
  """Whether a name in a data file stays in the folder that it is told of."""
  return not os.path.isabs(name) and (
      os.path.normpath(name).split(os.sep)[0] != os.pardir)


def below(root, name):
  """The path of a file that a data file names below `root`, a str.

  Raises ValueError for an absolute name, or one that climbs out by '..'.
  """
  if not is_inside(name):
    raise ValueError(f'{name!r} is not in {root}: name files below it')
  return os.path.join(pathlib.Path(root).expanduser(), name)


def find(root, name, folders, allow_outside=False):
  """Where a medium lies: the first of root/folder/name that is a file.

  A medium that is nowhere keeps its path in the first folder. Links in `root`
  are followed. Raises ValueError for an absolute name, or one that climbs out
  of `root` by '..', unless allow_outside.
  """
  if not allow_outside:
    below(root, name)
  for folder in folders:
    path = sources.located(os.path.join(root, folder, name))
    if sources.is_file(path):
      return path
  return os.path.join(root, folders[0], name)
