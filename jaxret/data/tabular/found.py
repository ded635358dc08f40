"""Where the media lie that a table names: in folders, or inside of archives."""
import functools
import os
import pathlib
import re

from jaxret.data import entries
from jaxret.data.containers import archives

FOLDERS = '', 'videos', 'images', 'video', 'image', 'data'
_URL = re.compile(r'[a-z][a-z0-9+.-]*://', re.IGNORECASE)
_PART = re.compile(r'\.part-?[^/]*$')


class Names:
  """`[name]` -> the path of a medium below a root.

  A name is looked up in `folders`, beside its table, and in the zip and tar
  archives below the root: there as it is, else as the end of a member's name.
  It may be a folder, too. What is nowhere keeps its path in the first one.
  Errors: ValueError for a name that leads elsewhere or is a URL, and for one
  that several members end with.
  """

  def __init__(self, root, folders=FOLDERS):
    self._root, self._folders = pathlib.Path(root), folders

  def find(self, name, table):
    """table: path of the file that names it."""
    if _URL.match(name):
      raise ValueError(f'the URL {name!r:.80}, wanted a file below '
                       f'{self._root}: URLs are not fetched')
    if not entries.is_inside(name):
      raise ValueError(f'{name!r:.80}, which is not in {self._root}, wanted a '
                       'file below it')
    beside = os.path.relpath(pathlib.Path(table).parent, self._root)
    beside = (beside,) if entries.is_inside(beside) and beside != '.' else ()
    folders = *self._folders, *beside
    path = entries.find(self._root, name, folders)
    if os.path.isfile(path):
      return path
    for folder in folders:  # of frames
      if name.strip('./') and os.path.isdir(self._root / folder / name):
        return os.path.join(self._root, folder, name)
    return self._packed(name) or path

  def _packed(self, name):
    file = name.rpartition('/')[2]
    found = [(archive, member) for archive, member in self._members.get(
        file, ()) if f'/{member}'.endswith(f'/{name}')]
    if len(found) > 1:
      exact = [one for one in found if one[1] == name]
      found = exact if len(exact) == 1 else found
    if len(found) > 1:
      raise ValueError(f'{name!r}, which is {"/".join(found[0])} and '
                       f'{"/".join(found[1])}, wanted one file of that name')
    return '/'.join(found[0]) if found else None

  @functools.cached_property
  def _members(self):
    """{name of a file: [(archive, member)]}."""
    found = {}
    for archive in _archives(self._root):
      for member in archives.members(archive):
        found.setdefault(member.rpartition('/')[2], []).append(
            (archive, member))
    return found


def _archives(root):
  """The archives below a folder; of one in parts the name without them."""
  names = {_PART.sub('', str(path)) for path in root.rglob('*')
           if path.is_file()}
  return sorted(name for name in names
                if name.lower().endswith(archives.ENDINGS))


def packed(root):
  """Archives below a root, for messages."""
  return [os.path.basename(name) for name in _archives(pathlib.Path(root))]
