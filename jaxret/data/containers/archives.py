"""Members of zip and tar archives, read where they lie.

Nothing is unpacked: a member's name is looked up in the archive's own list, and
is no path of this machine, whatever it says. Links, devices and the like are no
members. An archive in parts, as X.tar.part-aa, X.tar.part-ab, is one. Of a tar
that is compressed as a whole a plain one is made first, see compressed.
"""
import bisect
import contextlib
import functools
import glob
import io
import itertools
import os
import tarfile
import unicodedata
import zipfile
import zlib

from jaxret.data.containers import compressed

ENDINGS = '.zip', '.tar', *compressed.ENDINGS
MOST_BYTES = 4 << 30  # of a member: a few bytes may say that they are many


def parts(path):
  """The files that an archive consists of, itself or its parts, or ()."""
  if os.path.isfile(path):
    return (os.fspath(path),)
  return tuple(sorted(one for one in glob.glob(f'{glob.escape(path)}.part*')
                      if os.path.isfile(one)))


def members(path):
  """The names of the files in an archive, in its order.

  Errors: ValueError that names the archive.
  """
  return tuple(_open(path, state(path)).sizes)


def has(path, name):
  """Whether an archive holds a file of that name."""
  return _name_in(_open(path, state(path)).sizes, name) is not None


def read(path, name):
  """The bytes of a member.

  Errors: FileNotFoundError for a name that is not there; ValueError.
  """
  archive = _open(path, state(path))
  found = _name_in(archive.sizes, name)
  if found is None:
    raise FileNotFoundError(f'no such file in {path}')
  size = archive.sizes[found]
  if size > MOST_BYTES:
    raise ValueError(f'{size} bytes in {path}; want at most {MOST_BYTES}')
  with _said(path):
    return archive.read(found)


def state(path):
  """(size, time of change in ns) of each file of an archive."""
  return tuple((one.st_size, one.st_mtime_ns) for one in map(
      os.stat, parts(path)))


def _name_in(names, name):
  """The name as the archive composes its letters, None if it is not there."""
  for form in (None, 'NFC', 'NFD'):
    other = name if form is None else unicodedata.normalize(form, name)
    if other in names:
      return other
  return None


@functools.lru_cache(maxsize=64)
def _open(path, state):
  """state: of its files, so that an archive that changes is opened again."""
  files, name = parts(path), str(path).lower()
  with _said(path):
    if name.endswith(compressed.ENDINGS):
      return _Tar((compressed.plain(
          os.path.realpath(path), state, lambda: _Joined(files)),))
    return (_Zip if name.endswith('.zip') else _Tar)(files)


@contextlib.contextmanager
def _said(path):
  """Makes what the libraries raise for a damaged archive a ValueError."""
  try:
    yield
  except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError,
          NotImplementedError, RuntimeError) as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(f'{path} cannot be read ({reason}): download it again, '
                     'or unpack it') from None


class _Zip:
  """sizes: {name: bytes}."""

  def __init__(self, files):
    self._zip = zipfile.ZipFile(_Joined(files))  # reads for many threads
    self.sizes = {one.filename: one.file_size for one in self._zip.infolist()
                  if not one.is_dir() and not _is_link(one)}

  def read(self, name):
    return self._zip.read(name)


def _is_link(info):
  """Whether a zip's member is a link, whose bytes are a path."""
  return info.create_system == 3 and info.external_attr >> 28 == 0o12


class _Tar:
  """sizes: {name: bytes}; their places are read once."""

  def __init__(self, files):
    self._files, self.sizes, self._starts = files, {}, {}
    with tarfile.open(fileobj=_Joined(files), mode='r:') as tar:
      while (one := tar.next()) is not None:
        if one.isreg() and not one.issparse():
          name = one.name.removeprefix('./')
          self.sizes[name], self._starts[name] = one.size, one.offset_data
        tar.members.clear()  # of millions, a kilobyte each

  def read(self, name):
    with _Joined(self._files) as file:
      file.seek(self._starts[name])
      data = file.read(self.sizes[name])
    if len(data) < self.sizes[name]:
      raise EOFError(f'{name} is cut off')
    return data


class _Joined(io.RawIOBase):
  """Files read as one, their bytes behind each other."""

  def __init__(self, files):
    super().__init__()
    self._open = [open(file, 'rb') for file in files]
    self._ends = list(itertools.accumulate(map(os.path.getsize, files)))
    self._at = 0

  def readable(self):
    return True

  def seekable(self):
    return True

  def seek(self, offset, whence=os.SEEK_SET):
    base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at,
            os.SEEK_END: self._ends[-1]}[whence]
    if base + offset < 0:
      raise ValueError('a seek to before the start')
    self._at = base + offset
    return self._at

  def readinto(self, buffer):
    k = bisect.bisect_right(self._ends, self._at)
    if k == len(self._ends):
      return 0
    file, start = self._open[k], self._ends[k - 1] if k else 0
    file.seek(self._at - start)
    count = file.readinto(memoryview(buffer)[:self._ends[k] - self._at])
    self._at += count
    return count

  def read(self, size=-1):
    """As a file: all that was asked for, but for the end."""
    if size is None or size < 0:
      size = max(0, self._ends[-1] - self._at)
    pieces = []
    while size > 0 and (piece := super().read(min(size, 1 << 24))):
      pieces.append(piece)
      size -= len(piece)
    return b''.join(pieces)

  def close(self):
    for file in self._open:
      file.close()
    super().close()
