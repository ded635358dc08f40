"""Files that are whole or not there; names of files that are made of ids."""
import contextlib
import hashlib
import os
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import BinaryIO

# Bytes of a name that stands for an id: with an ending, and with what
# `replacing` puts around it, a file system takes 255.
_LONGEST = 160
# What a name cannot hold, what would lead elsewhere or hide the file, and what
# `name_of_id` itself writes.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\%]|^[.~]')


def name_of_id(name: str) -> str:
  """An id as the name of a file, in the directory where it is put.

  Most ids are their own name. What a name cannot hold, as '/', or what would
  lead elsewhere, as '..', is percent-encoded; an id that is too long, empty or
  no text is cut, with a hash behind it. Ids that differ have names that differ.
  """
  made = _UNSAFE.sub(lambda found: f'%{ord(found[0]):02X}', name)
  data = made.encode(errors='surrogatepass')
  kept = data[:_LONGEST].decode(errors='ignore')
  if kept and kept == made:
    return made
  whole = hashlib.sha256(data).hexdigest()[:32]
  return f'~{kept[:_LONGEST // 4]}{whole}'


def id_of_name(made: str) -> str:
  """The id that `name_of_id` made a name of; another name is its own id.

  Of an id that was cut only its name is known.
  """
  name = urllib.parse.unquote(made)
  return name if name_of_id(name) == made else made


def write_atomically(path: str | os.PathLike, content: str | bytes,
                     durable: bool = True) -> None:
  """Writes str (as UTF-8) or bytes, whole or, if interrupted, not at all.

  durable: whether file and name are on disk on return, milliseconds later; if
  not, a power failure can lose what a kill cannot. For many files of which one
  that is written last speaks, see `to_disk`.
  """
  data = content.encode() if isinstance(content, str) else content
  with replacing(path, durable) as partial, partial.open('wb') as file:
    file.write(data)


def to_disk() -> None:
  """Returns when all that was written to any file is on disk."""
  os.sync()


def save_atomically(path: str | os.PathLike,
                    save: Callable[[BinaryIO], object]) -> None:
  """The same of what `save` writes to the binary file that it is given."""
  with replacing(path) as partial, partial.open('wb') as file:
    save(file)


def save_new(path: str | os.PathLike,
             save: Callable[[BinaryIO], object]) -> bool:
  """As `save_atomically`, but a file that is there stays: False then.

  Of processes that write one file at a time exactly one gets True.
  """
  path = pathlib.Path(path)
  with _partial(path) as partial:
    with partial.open('wb') as file:
      save(file)
      _to_disk(file)
    try:
      os.link(partial, path)
    except FileExistsError:
      return False
    finally:
      partial.unlink()
  _names_to_disk(path.parent)
  return True


@contextlib.contextmanager
def replacing(path: str | os.PathLike, durable: bool = True
              ) -> Iterator[pathlib.Path]:
  """Gives the path of a file to write, which then takes the place of `path`.

  If durable, both the file and its name are on disk when the context ends. An
  exception leaves nothing behind; a kill leaves a hidden `.<name>.*.partial`,
  which nothing reads.
  """
  path = pathlib.Path(path)
  with _partial(path) as partial:
    yield partial
    if durable:
      with partial.open('rb') as file:
        _to_disk(file)
    os.replace(partial, path)
  if durable:
    _names_to_disk(path.parent)


@contextlib.contextmanager
def _partial(path):
  """The path of an unfinished file, whose name is this thread's own."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(
      f'.{path.name}.{os.getpid()}-{threading.get_ident()}.partial')
  try:
    yield partial
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


def _to_disk(file):
  file.flush()
  os.fsync(file.fileno())


def _names_to_disk(directory):
  """A rename is on disk when its directory is; where that can be asked for."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError:  # some network file systems cannot
    pass
  finally:
    os.close(descriptor)
