"""Files that are whole or not there."""
import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO


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
