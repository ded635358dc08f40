"""One run, or one call of the library, at a time writes a workdir."""
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import sys
import tempfile
import time
from collections.abc import Iterator

from absl import logging

from jaxret import processes

NAME = '.lock'  # hidden: no result of a run
# What a file system without locks answers; NFS without lockd, for one.
_NO_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL


@contextlib.contextmanager
def held(workdir: str | os.PathLike) -> Iterator[None]:
  """Holds the lock of a workdir for one run, of one process or several.

  The system frees it when the process ends, however it ends, so that none is
  ever left over. On a file system without locks a warning is logged.

  Raises ValueError on all processes, naming who holds it, if another run does.
  """
  path = pathlib.Path(workdir) / NAME
  with contextlib.ExitStack() as stack:
    holder = _taken(path, stack) if processes.first() else ''
    if not processes.agreed(not holder):
      raise ValueError(
          f'{workdir} is in use by {holder or "another run"}: wait for it, '
          'stop it, or use another workdir')
    yield


@contextlib.contextmanager
def held_or_passing(workdir: str | os.PathLike | None
                    ) -> Iterator[pathlib.Path]:
  """A directory that a call of the library writes, held as a run's is.

  workdir: None gives one that is gone when the context ends.
  """
  if workdir is None:
    with tempfile.TemporaryDirectory() as passing:
      yield pathlib.Path(passing)
    return
  with held(workdir):
    yield pathlib.Path(workdir)


def _taken(path, stack):
  """Takes the lock until the stack ends; '', or who has it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  file = stack.enter_context(path.open('a+'))
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return _named(path)
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    logging.warning('%s: this file system has no locks (%s): see to it that '
                    'one run at a time uses it', path.parent, error.strerror)
    return ''
  file.truncate(0)
  file.write(json.dumps({
      'process': os.getpid(), 'host': socket.gethostname(),
      'since': time.strftime('%Y-%m-%d %H:%M:%S'), 'command': sys.argv}))
  file.flush()
  return ''


def _named(path):
  try:
    holder = json.loads(path.read_bytes())
    return (f'process {holder["process"]} on {holder["host"]} since '
            f'{holder["since"]}')
  except (ValueError, KeyError, TypeError):  # it has just taken it
    return 'another run'
