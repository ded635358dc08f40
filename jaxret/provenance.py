"""Where a result comes from: provenance.json of a workdir.

Not in results.json, whose bytes are the same whenever a run is repeated.
"""
import datetime
import json
import logging
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax

import jaxret
from jaxret import files

NAME = 'provenance.json'


def gather(seed: int | None) -> dict[str, Any]:
  """date, command, version, commit, device, duration_s, seed; all plain.

  commit: of the checkout that the package lies in, with '+' where files of it
  were changed; None of an installed one. duration_s: since this process began.
  """
  # When logging was imported, among the first things that a process does.
  since_ms = logging.makeLogRecord({}).relativeCreated
  device = jax.devices()[0]
  return {
      'date': datetime.datetime.now().astimezone().isoformat(' ', 'seconds'),
      'command': shlex.join(map(str, sys.argv)),
      'version': jaxret.__version__, 'commit': commit(),
      'device': f'{jax.device_count()} x {device.device_kind}',
      'duration_s': round(since_ms / 1e3, 1), 'seed': seed}


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
  minutes, seconds = divmod(round(found['duration_s']), 60)
  parts = [found['date'], f'jaxret {found["version"]}',
           found['commit'] and f'commit {found["commit"]}', found['device'],
           f'{minutes} min {seconds} s' if minutes else f'{seconds} s',
           None if found['seed'] is None else f'seed {found["seed"]}']
  return ', '.join(part for part in parts if part)
