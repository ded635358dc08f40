"""Published files of any layout as a list of entries, checked one by one."""
import csv
import json
import os
import pathlib

from jaxret.data import sources

_WORDS = {dict: 'an object', list: 'a list', str: 'a string', int: 'a number',
          float: 'a number', bool: 'a boolean', type(None): 'null'}


def root_of(root, name, wanted):
  """The directory of a benchmark's files; ValueError where there is none."""
  if not root:
    raise ValueError(f'data.root is not set; give the directory of {name}: '
                     f'{wanted}')
  root = pathlib.Path(root).expanduser()
  if not root.is_dir():
    raise ValueError(f'data.root {root} is not a directory; {wanted}')
  return root


def present(root, name, wanted):
  """The path of a file under `root`; ValueError where it is missing."""
  path = root / name
  if not path.exists():
    raise ValueError(f'data.root {root} has no {name}; {wanted}')
  return path


def read_json(path):
  """What a JSON file holds."""
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not valid JSON: {error}') from None


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
  with path.open(encoding='utf-8') as file:
    for line, text in enumerate(file, 1):
      if not text.strip():
        continue
      try:
        entry = json.loads(text)
      except ValueError as error:
        raise ValueError(
            f'{path}, line {line} is not valid JSON: {error}') from None
      if not isinstance(entry, dict):
        raise wrong_line(path, line, kind(entry), 'an object')
      yield line, entry


def read_csv(path, columns):
  """The rows of a CSV file with a header, as dicts of strings."""
  with path.open(newline='', encoding='utf-8') as file:
    reader = csv.DictReader(file)
    found = reader.fieldnames or []
    rows = list(reader)
  _check_columns(path, found, columns)
  if not rows:
    raise ValueError(f'{path} has a header and no rows')
  return rows


def read_parquet(path, columns):
  """The rows of a parquet file as dicts."""
  import pyarrow  # slow to import
  import pyarrow.parquet
  try:
    file = pyarrow.parquet.ParquetFile(path)
  except (pyarrow.ArrowInvalid, OSError) as error:
    raise ValueError(f'{path} is not a parquet file: {error}') from None
  with file:
    _check_columns(path, file.schema_arrow.names, columns)
    return file.read(columns=list(columns)).to_pylist()


def _check_columns(path, found, wanted):
  missing = [column for column in wanted if column not in found]
  if missing:
    raise ValueError(f'{path} has the columns {", ".join(found) or "none"}; '
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
  return value


def kind(value):
  """What a value of a file is, in words."""
  return _WORDS.get(type(value), f'a {type(value).__name__}')


def wrong(path, i, got, wanted):
  """The ValueError about entry i, counted from 0."""
  return _wrong(f'{path}, entry {i + 1}', got, wanted)


def wrong_line(path, line, got, wanted):
  """The ValueError about a line, counted from 1."""
  return _wrong(f'{path}, line {line}', got, wanted)


def _wrong(where, got, wanted):
  return ValueError(f'{where}: got {got}, wanted {wanted}')


def find(root, name, folders):
  """Where a medium lies: the first of root/folder/name that is a file.

  A medium that is nowhere keeps its path in the first folder.
  """
  for folder in folders:
    path = sources.located(os.path.join(root, folder, name))
    if os.path.isfile(path):
      return path
  return os.path.join(root, folders[0], name)
