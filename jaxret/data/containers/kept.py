"""Files that are made once of a file that is slow to read, in the cache."""
import hashlib
import os
import pathlib
import threading
import uuid

_lock = threading.Lock()


def root():
  """The directory of the cache."""
  chosen = os.environ.get('JAXRET_CACHE') or '~/.cache/jaxret'
  return pathlib.Path(chosen).expanduser()


def made(folder, ending, key, write):
  """The path of what `write(path)` makes of a key, at its first call.

  folder: of the cache. key: whatever the content depends on. A file that is
  there is whole. Errors: those of `write`.
  """
  name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
  path = root() / folder / f'{name}{ending}'
  if path.is_file():
    return path
  with _lock:  # threads that want one make it once
    if not path.is_file():
      path.parent.mkdir(parents=True, exist_ok=True)
      partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.partial')
      try:
        write(partial)
        os.replace(partial, path)
      finally:
        partial.unlink(missing_ok=True)
  return path
