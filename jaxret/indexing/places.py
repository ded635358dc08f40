"""Where an index lies: a directory, or the prefix of an object store.

Both hold the same files. The arrays of `search/` lie on the local disk, where
they are mapped into memory: of an index in an object store in the user's cache.
"""
import contextlib
import datetime
import hashlib
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from jaxret import files, workdir_lock
from jaxret.indexing import lease

_OF_SCHEME = {'s3': 'AWS', 'gs': 'GOOGLE', 'az': 'AZURE'}
SCHEMES = tuple(_OF_SCHEME)


class Directory:
  """A directory of this machine. near: where `search/` lies."""

  def __init__(self, path: str | os.PathLike):
    self.path = self.near = pathlib.Path(path).expanduser()
    self.name = self.path.resolve().name

  def __str__(self) -> str:
    return str(self.path)

  def check(self) -> None:
    """Raises ValueError for what can hold no index."""
    if self.path.exists() and not self.path.is_dir():
      raise ValueError(f'{self}: a file is there; name a directory')

  def read(self, name: str) -> bytes | None:
    """A file; None where there is none."""
    path = self.path / name
    return path.read_bytes() if path.is_file() else None

  def write(self, name: str, data: bytes) -> None:
    """Replaces a file at once."""
    files.write_atomically(self.path / name, data)

  def states(self, folder: str) -> dict[str, str]:
    """{name of a file of a folder: what a new file of this name changes}.

    '' here: with the directory, all that was made of its files goes.
    """
    path = self.path / folder
    return {one.name: '' for one in path.iterdir()} if path.is_dir() else {}

  @contextlib.contextmanager
  def held(self) -> Iterator[Callable[[], None]]:
    """Holds the lock for one writer; gives what is called before a write."""
    with workdir_lock.held(self.path):
      yield lambda: None


class Prefix:
  """A prefix of an object store, s3://bucket/name; reached by obstore."""

  def __init__(self, url: str):
    self.path = _checked(url)
    self.name = self.path.rpartition('/')[2]
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache')
    self.near = cache.expanduser() / 'jaxret' / 'indexes' / hashlib.sha256(
        self.path.encode()).hexdigest()[:32]
    self._obstore = _obstore()
    with self._blamed():
      self._store = self._obstore.store.from_url(
          self.path, client_options={
              'connect_timeout': '5s', 'timeout': '60s',
              # Read from the environment only where no options are given.
              'allow_http': _is_set(f'{_OF_SCHEME[self.path[:2]]}_ALLOW_HTTP')},
          retry_config={'max_retries': 3,
                        'retry_timeout': datetime.timedelta(seconds=30)})

  def __str__(self) -> str:
    return self.path

  def check(self) -> None:
    """Nothing here; whether it can be reached shows when it is read."""

  def read(self, name: str) -> bytes | None:
    with self._blamed(), contextlib.suppress(FileNotFoundError):
      return bytes(self._obstore.get(self._store, name).bytes())
    return None

  def write(self, name: str, data: bytes) -> None:
    with self._blamed():
      self._obstore.put(self._store, name, data)

  def states(self, folder: str) -> dict[str, str]:
    with self._blamed():
      found = self._obstore.list_with_delimiter(self._store, folder)['objects']
    return {one['path'].rpartition('/')[2]: str(one['e_tag'] or
                                                one['last_modified'])
            for one in found}

  @contextlib.contextmanager
  def held(self) -> Iterator[Callable[[], None]]:
    with contextlib.ExitStack() as stack:
      with self._blamed():
        held = stack.enter_context(
            lease.Lease(self._obstore, self._store, self.path))
      yield held.check

  @contextlib.contextmanager
  def _blamed(self):
    """What the store answers, as one line that names the index."""
    try:
      yield
    except ValueError:
      raise
    except Exception as error:  # obstore's own, and Python's of files
      said = str(error).split('\n\nDebug source')[0]
      raise ValueError(f'{self.path} cannot be reached '
                       f'({" ".join(said.split()):.300})') from error


Place: TypeAlias = Directory | Prefix


def of(path: str | os.PathLike | Place) -> Place:
  """The place that a path or a URL names; ValueError for another URL."""
  if isinstance(path, (Directory, Prefix)):
    return path
  return Prefix(str(path)) if '://' in str(path) else Directory(path)


def _checked(url):
  """A URL without a slash at its end; ValueError where it is none of ours."""
  parts = urllib.parse.urlsplit(url)
  if parts.scheme not in SCHEMES:
    raise ValueError(f'{url}: an index lies in a directory of this machine or '
                     'at ' + ', '.join(f'{one}://' for one in SCHEMES))
  wrong = parts.query or parts.fragment or '@' in parts.netloc or (
      {'', '.', '..'} & set(parts.path.strip('/').split('/')))
  if not parts.netloc or wrong:
    raise ValueError(f'{url}: want {parts.scheme}://BUCKET/NAME; keys are '
                     'taken from the environment')
  return f'{parts.scheme}://{parts.netloc}/{parts.path.strip("/")}'


def _is_set(name):
  return os.environ.get(name, '').lower() in ('1', 'true', 'on', 'yes')


def _obstore() -> Any:
  """The module; ValueError that says how to install it."""
  try:
    import obstore
    import obstore.store  # noqa: F401
  except ImportError:
    raise ValueError('an index in an object store needs obstore: pip install '
                     "-e '.[index]'") from None
  return obstore
