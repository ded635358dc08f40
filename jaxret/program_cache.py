"""Compiled programs that JAX keeps in a directory, kept below a size.

JAX's own bound (jax_compilation_cache_max_size) locks the directory for every
look at it and reads a second file for each program there; without one, programs
are files that are written once. So they are pruned now and then, the ones first
that were longest not used.
"""
import contextlib
import hashlib
import os
import pathlib
import platform
import time

MOST_BYTES = 2 << 30
LEFT = 0.75  # of MOST_BYTES, so that not every process prunes
PRUNED = '.pruned'  # when that was last looked at
EVERY_S = 3600


def of_machine() -> str:
  """A name for what programs are compiled for: the processor and its features.

  A home directory may be shared by machines that differ in these.
  """
  said = platform.machine()
  with contextlib.suppress(OSError, StopIteration):
    said += next(line for line in pathlib.Path('/proc/cpuinfo').read_text(
        ).splitlines() if line.startswith(('flags', 'Features')))
  return hashlib.sha256(said.encode()).hexdigest()[:12]


def prune(directory: str | os.PathLike, most_bytes: int = MOST_BYTES,
          every_s: float = EVERY_S) -> int:
  """Removes the oldest programs where there are more than `most_bytes`.

  At most once in `every_s`; returns how many went. A process that looks for one
  just now compiles it anew.
  """
  directory = pathlib.Path(directory)
  mark = directory / PRUNED
  try:
    if mark.exists() and 0 <= time.time() - mark.stat().st_mtime < every_s:
      return 0
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark.touch()
    with os.scandir(directory) as entries:
      found = [(max(state.st_atime, state.st_mtime), state.st_size, one.path)
               for one in entries if not one.name.startswith('.')
               and (state := one.stat())]
  except OSError:  # another process prunes, or it cannot be written
    return 0
  size, gone = sum(n for _, n, _ in found), 0
  if size <= most_bytes:
    return 0
  for _, n_bytes, path in sorted(found):
    if size <= LEFT * most_bytes:
      break
    with contextlib.suppress(OSError):
      os.unlink(path)
      gone += 1
    size -= n_bytes
  return gone
