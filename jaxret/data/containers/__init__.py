"""Paths that go on inside a file: media are read where they lie.

  DIR/videos.zip/folder/clip.mp4   a member of an archive, see archives
  DIR/test.parquet/17/image        the cell of row 17, counted from 0, in the
                                   column 'image' of a table, see cells
  DIR/test.parquet/17.3/frames     entry 3 of a cell that is a list

Such a path is a string as any other, in a captions.json as well. A file or a
folder of that name comes first; nothing is unpacked, and what a path says
behind the name of the file leads nowhere but into it.
"""
import os
import re
from typing import NamedTuple

from jaxret.data.containers import archives, cells

_FILE = re.compile('(?:%s)(?=/)' % '|'.join(
    map(re.escape, archives.ENDINGS + cells.ENDINGS)), re.IGNORECASE)
_CELL = re.compile(r'(\d{1,15})(?:\.(\d{1,9}))?/(.+)', re.DOTALL)


class Inside(NamedTuple):
  """A place inside a file: the file, and what is behind its name."""
  file: str
  rest: str


def located(path):
  """The Inside that a path names, None where it leads into no such file."""
  path = os.fspath(path)
  for found in _FILE.finditer(path):
    file = path[:found.end()]
    if archives.parts(file):
      return Inside(file, path[found.end() + 1:])
  return None


def has(path):
  """Whether a path leads to an archive's member or a table's cell."""
  inside = located(path)
  if inside is None:
    return False
  if _is_table(inside.file):
    return _CELL.fullmatch(inside.rest) is not None
  return archives.has(*inside)


def read(path):
  """The bytes of a medium inside a file.

  Errors: FileNotFoundError for what is not there; ValueError and OSError for
  what cannot be read.
  """
  inside = located(path)
  if inside is None:
    raise FileNotFoundError('no such file')
  if not _is_table(inside.file):
    return archives.read(*inside)
  cell = _CELL.fullmatch(inside.rest)
  if cell is None:
    raise FileNotFoundError(f'no cell {inside.rest!r}; want ROW/COLUMN')
  row, entry, column = cell.groups()
  return cells.read(inside.file, int(row), column, entry and int(entry))


def state(path):
  """(size, time of change in ns) of the file that a path leads into, or None.

  Of an archive in parts those of its parts, added up and the last.
  """
  inside = located(path)
  if inside is None:
    return None
  found = archives.state(inside.file)
  return sum(size for size, _ in found), max(time for _, time in found)


def cell(file, row, column, entry=None):
  """The path of a table's cell, or of an entry of one that is a list."""
  place = row if entry is None else f'{row}.{entry}'
  return f'{file}/{place}/{column}'


def _is_table(file):
  return file.lower().endswith(cells.ENDINGS)
