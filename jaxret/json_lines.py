"""What the verbs are given: JSON objects, one a line, of a file or a pipe."""
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple


class Entry(NamedTuple):
  """One object. place: where it stands, for messages; folder: of its file."""
  place: str
  folder: pathlib.Path
  whole: dict[str, Any]

  def located(self, path: str) -> str:
    """A path as seen from the folder; ~ is the user's own."""
    return str(self.folder / pathlib.Path(path).expanduser())


def read(file: str, keys: Sequence[str]) -> list[Entry]:
  """The objects of a file, or of standard input where it is '-'.

  Empty lines do not count. Raises ValueError that names the file or the line:
  of what is no object of these keys, and where there is none at all.
  """
  if file == '-':
    name, folder, lines = 'standard input', pathlib.Path(), list(sys.stdin)
  else:
    path = pathlib.Path(file).expanduser()
    name, folder = file, path.parent
    try:
      lines = path.read_text('utf-8').split('\n')
    except (OSError, UnicodeDecodeError) as error:
      raise ValueError(f'{file}: it cannot be read ({error})') from None
  found = [_entry(f'{name}, line {number}', folder, line, keys)
           for number, line in enumerate(lines, 1) if line.strip()]
  if not found:
    raise ValueError(f'{name}: got no lines; want a JSON object on each')
  return found


def _entry(place, folder, line, keys):
  wanted = ', '.join(keys)
  try:
    whole = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f'{place}: no JSON ({error})') from None
  if not isinstance(whole, dict):
    raise ValueError(f'{place}: got {type(whole).__name__}, want an object of '
                     f'{wanted}')
  unknown = sorted(set(whole) - set(keys))
  if unknown:
    raise ValueError(f'{place}: unknown key {unknown[0]!r}; want {wanted}')
  return Entry(place, folder, whole)
