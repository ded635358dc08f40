"""Where a result comes from: provenance.json of a workdir.

Not in results.json, whose bytes are the same whenever a run is repeated.
"""
import contextlib
import contextvars
import datetime
import json
import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from absl import logging

import jaxret
from jaxret import files, own_files, processes

NAME = 'provenance.json'
SPENT = '.spent.json'  # hidden: no result of a run
KEPT_EVERY_S = 30.0  # so much of a process that was killed is not counted

# Gives the seconds of the run that is at work, None where they are not known.
_seconds: contextvars.ContextVar[Callable[[], float | None]] = (
    contextvars.ContextVar('seconds', default=lambda: None))


@contextlib.contextmanager
def timed(workdir: str | os.PathLike) -> Iterator[None]:
  """Counts the time of a run, over all processes that worked on its workdir.

  A workdir that others have worked on, with no count, stays without one.
  """
  workdir = pathlib.Path(workdir)
  before, start = _spent(workdir), time.monotonic()
  def seconds():
    return None if before is None else before + time.monotonic() - start
  ended = threading.Event()
  def keep():
    files.write_atomically(workdir / SPENT, json.dumps({'seconds': seconds()}),
                           durable=False)
  def keep_now_and_then():
    while not ended.wait(KEPT_EVERY_S):
      with contextlib.suppress(OSError):  # a full disk ends the run elsewhere
        keep()
  keeps = processes.first()
  thread = threading.Thread(target=keep_now_and_then, daemon=True)
  if keeps:
    keep()
    thread.start()
  token = _seconds.set(seconds)
  try:
    yield
  finally:
    _seconds.reset(token)
    ended.set()
    if keeps:
      thread.join()
      with contextlib.suppress(OSError):
        keep()


def _spent(workdir):
  """Seconds of earlier processes; None where they are not known."""
  path = workdir / SPENT
  if not path.exists():
    return None if (workdir / 'config.json').exists() else 0.0
  try:
    found = own_files.read_object(path)['seconds']
    return None if found is None else float(found)
  except (OSError, ValueError, KeyError, TypeError) as error:
    logging.warning('%s: how long the run took is not known any more (%s)',
                    workdir, error)
    return None


def gather(seed: int | None) -> dict[str, Any]:
  """date, command, version, commit, device, duration_s, seed; all plain.

  commit: of the checkout that the package lies in, with '+' where files of it
  were changed; None of an installed one. duration_s: of the run within `timed`,
  all of its processes so far; None elsewhere.
  """
  device, seconds = jax.devices()[0], _seconds.get()()
  return {
      'date': datetime.datetime.now().astimezone().isoformat(' ', 'seconds'),
      'command': command(),
      'version': jaxret.__version__, 'commit': commit(),
      'device': f'{jax.device_count()} x {device.device_kind}',
      'duration_s': None if seconds is None else round(seconds, 1),
      'seed': seed}


def command() -> str:
  """As it was typed, whether Python ran a module or the installed script."""
  program, *flags = map(str, sys.argv)
  path = pathlib.Path(program)
  if path.parent == pathlib.Path(jaxret.__file__).parent:
    words = ['python', '-m', 'jaxret' if path.stem == '__main__' else
             f'jaxret.{path.stem}']
  else:
    words = [path.name if path.name == 'jaxret' else program]
  return shlex.join([*words, *flags])


def commit() -> str | None:
  """The commit of the package's git checkout, None where there is none."""
  root = pathlib.Path(__file__).resolve().parents[1]
  if not (root / '.git').exists():
    return None
  try:
    head, changes = (subprocess.run(
        ['git', '-C', str(root), *asked], capture_output=True, text=True,
        timeout=10, check=True).stdout.strip()
                     for asked in (['rev-parse', '--short=12', 'HEAD'],
                                   ['status', '--porcelain', '-uno']))
  except (OSError, subprocess.SubprocessError):  # no git, or not its user's
    return None
  return f'{head}{"+" if changes else ""}'


def write(workdir: str | os.PathLike, found: Mapping[str, Any]) -> None:
  """Writes provenance.json, at once."""
  files.write_atomically(pathlib.Path(workdir) / NAME,
                         json.dumps(found, indent=2) + '\n')


def read(workdir: str | os.PathLike) -> dict[str, Any] | None:
  """What `write` wrote; None where there is nothing of that kind."""
  try:
    found = json.loads((pathlib.Path(workdir) / NAME).read_bytes())
    line(found)
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return found


def line(found: Mapping[str, Any]) -> str:
  """'2026-01-02 03:04:05+00:00, jaxret 1.0, commit ..., seed 0' for a page."""
  minutes, seconds = divmod(round(found['duration_s'] or 0), 60)
  parts = [found['date'], f'jaxret {found["version"]}',
           found['commit'] and f'commit {found["commit"]}', found['device'],
           None if found['duration_s'] is None else
           f'{minutes} min {seconds} s' if minutes else f'{seconds} s',
           None if found['seed'] is None else f'seed {found["seed"]}']
  return ', '.join(part for part in parts if part)
