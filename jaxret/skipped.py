"""skipped.jsonl of a workdir: every item that was left out, with its reason.

A line is {"id", "reason", "split", "crc32"}; older ones have no checksum. One
that is damaged is passed over, and a run that meets its item lists it again.
"""
import json
import os
import pathlib
from collections.abc import Iterable

from absl import logging

from jaxret import files, own_files

NAME = 'skipped.jsonl'
_SUM = 'crc32'


def read(workdir: str | os.PathLike) -> list[dict[str, str]]:
  """The records [{'id', 'reason', 'split'}], none where there is no file."""
  path = pathlib.Path(workdir) / NAME
  if not path.exists():
    return []
  found = []
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    record = _record(line)
    if record is not None:
      found.append(record)
    elif line:
      logging.warning('%s, line %d is damaged and does not count; the item is '
                      'listed again where a run meets it', path, number)
  return found


def add(workdir: str | os.PathLike, records: Iterable[dict[str, str]]) -> None:
  """Adds those of [{'id', 'reason', 'split'}] that are new."""
  known = read(workdir)
  new = [record for record in records if record not in known]
  # As a whole: what is damaged does not stay.
  files.write_atomically(pathlib.Path(workdir) / NAME, ''.join(
      json.dumps({**record, _SUM: _sum(record)}) + '\n'
      for record in [*known, *new]))


def _record(line):
  """What a line says, None of one that is damaged."""
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(record, dict):
    return None
  checksum = record.pop(_SUM, None)
  fields = {'id', 'reason'} <= set(record) <= {'id', 'reason', 'split'}
  if not fields or not all(isinstance(one, str) for one in record.values()):
    return None
  return record if checksum in (None, _sum(record)) else None


def _sum(record):
  return own_files.checksum(json.dumps(record, sort_keys=True).encode())
