"""Parquet files of the hub that are read where they lie, by ranges of bytes.

On this disk such a file is an empty place: as large as the file and without one
byte of it, in a directory that is laid out as the hub's cache lays a snapshot.
Whoever opens it here asks the hub for what is read, and for no more.
"""
import io
import os
import pathlib
import re

from jaxret.data.containers import kept

FOLDER = 'streamed'
_PLACE = re.compile(
    rf'/{FOLDER}/datasets--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/snapshots/'
    r'(?P<commit>[0-9a-f]{40})/(?P<file>.+\.parquet)$')
_SHA256 = '.{}.sha256'  # beside a place, what the hub says of its file


def place(repository, commit):
  """The directory of a data set's places."""
  return kept.root() / FOLDER / f'datasets--{repository.replace("/", "--")}' / (
      'snapshots') / commit


def make(path, size, sha256=None):
  """Makes the place of a file; sha256: of its content, where it is known.

  One that is there stays, its time too, by which others know it.
  """
  if path.is_file() and path.stat().st_size == size:
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  if sha256:
    path.with_name(_SHA256.format(path.name)).write_text(sha256)
  with open(path, 'wb') as file:
    file.truncate(size)


def is_place(path):
  """Whether a path is that of a file which is read by ranges."""
  return _PLACE.search(pathlib.Path(path).as_posix()) is not None


def known_sha256(path):
  """What the hub says of a place's file, or None."""
  told = pathlib.Path(path).with_name(_SHA256.format(pathlib.Path(path).name))
  return told.read_text() if told.is_file() else None


def opened(path):
  """What pyarrow opens: of a place a file of the hub, else the path."""
  found = _PLACE.search(pathlib.Path(path).as_posix())
  return os.fspath(path) if found is None else _Ranges(
      'datasets/{owner}/{name}@{commit}/{file}'.format(**found.groupdict()))


class _Ranges(io.RawIOBase):
  """A file of the hub; each read is one request for as many bytes.

  Whatever goes wrong is an OSError that names the file.
  """

  def __init__(self, name):
    super().__init__()
    self._name = name
    self._file = self._asked(lambda: _file_system().open(
        name, 'rb', cache_type='none'))

  def _asked(self, work):
    try:
      return work()
    except Exception as error:  # of many kinds: offline, gone, gated, cut off
      reason = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
      raise OSError(f'hf://{self._name}: the hub gave nothing ({reason})'
                    ) from None

  def readable(self):
    return True

  def seekable(self):
    return True

  def tell(self):
    return self._file.tell()

  def seek(self, offset, whence=os.SEEK_SET):
    return self._file.seek(offset, whence)

  def read(self, size=-1):
    if size is None or size < 0:
      size = self._file.size - self._file.tell()
    return self._asked(lambda: self._file.read(size))


def _file_system():
  import huggingface_hub  # slow to import
  return huggingface_hub.HfFileSystem()
