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


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
  """Writes str (as UTF-8) or bytes, whole or, if interrupted, not at all."""
  data = content.encode() if isinstance(content, str) else content
  save_atomically(path, lambda file: file.write(data))


def save_atomically(path: str | os.PathLike,
                    save: Callable[[BinaryIO], object]) -> None:
  """The same of what `save` writes to the binary file that it is given."""
  with replacing(path) as partial, partial.open('wb') as file:
    save(file)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives the path of a file to write, which then takes the place of `path`.

  Its name is this thread's own. What an exception interrupts leaves nothing
  behind; a kill leaves a hidden `.<name>.*.partial`, which nothing reads.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(
      f'.{path.name}.{os.getpid()}-{threading.get_ident()}.partial')
  try:
    yield partial
    os.replace(partial, path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise
