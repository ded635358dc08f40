"""Descriptions of images and videos by an MLLM, made once and kept as text.

  python -m jaxret.data.descriptions --cache DIR --out TEXTS
  python -m jaxret.data.descriptions --texts TEXTS --cache DIR

The first writes TEXTS/<id>.txt, as LECCR's authors publish theirs; the second
reads such files into a cache.

A cache is a directory of *.jsonl files, one for each process that described.
A line holds one description, {"key", "id", "text", "tokens", "finish",
"settings", "crc32"}, or what all of some were made with, {"fingerprint",
"settings"}. One that does not have its checksum is made again; older lines have
none.
The key is a hash of the settings, of the medium's id and of its bytes.
"""
import argparse
import hashlib
import json
import os
import pathlib
import sys

import numpy as np
from absl import logging

from jaxret import files, own_files
from jaxret.data import sources
from jaxret.data.sets import nrccr

IMPORTED = 'imported'
_FIELDS = ('key', 'id', 'text', 'tokens', 'finish', 'settings')
_SUM = 'crc32'


def fingerprint(settings):
  """16 hex digits that change with any of the settings, a flat dict."""
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def key(settings, item):
  """What a description of an Item is found by."""
  digest = hashlib.sha256(f'{fingerprint(settings)}\n{item.id}\n'.encode())
  for medium in (item.image, item.video):
    for part in medium if isinstance(medium, tuple) else (medium,):
      digest.update(_content(part))
  return digest.hexdigest()[:32]


def _content(medium):
  if medium is None:
    return b'-'
  if isinstance(medium, bytes):
    return hashlib.sha256(medium).digest()
  if isinstance(medium, np.ndarray):
    return hashlib.sha256(
        f'{medium.shape}'.encode() + medium.tobytes()).digest()
  try:
    medium = sources.checked(medium, 'image')
    if isinstance(medium, bytes):  # inside of a file
      return _content(medium)
    with open(medium, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').digest()
  except (OSError, sources.MediaError):
    return f'no file {medium}'.encode()  # whoever reads it says so


class Cache:
  """The descriptions in a directory, of one group of settings.

  part: the name of the file that this process adds to.
  Errors: ValueError where the directory holds descriptions of other settings,
  naming the first that differs.
  """

  def __init__(self, directory, settings, part='part-0'):
    self.directory = pathlib.Path(directory).expanduser()
    self.settings, self._fingerprint = settings, fingerprint(settings)
    self._path = self.directory / f'{part}.jsonl'
    self._known = set()
    made_with, lines = _read(self.directory)
    for where, record in lines:
      if record['settings'] != self._fingerprint:
        raise _mixed(where, made_with[record['settings']], settings,
                     'this run has')
      self._known.add(record['key'])

  def missing(self, keys):
    """Indices of those of `keys` that have no description yet."""
    return [i for i, name in enumerate(keys) if name not in self._known]

  def add(self, records):
    """Appends descriptions, dicts of key, id, text, tokens and finish.

    They are on disk when this returns. A line that an earlier process was
    killed in is ended first; readers pass over it.
    """
    lines = []
    if self._fingerprint not in _read_file(self._path)[0]:
      lines.append({'fingerprint': self._fingerprint,
                    'settings': self.settings})
    for record in records:
      record = {**record, 'settings': self._fingerprint}
      lines.append({**record, _SUM: _sum(record)})
    self.directory.mkdir(parents=True, exist_ok=True)
    broken = self._path.is_file() and not self._path.read_bytes().endswith(
        b'\n')
    with self._path.open('a', encoding='utf-8') as file:
      file.write('\n' * broken + ''.join(
          json.dumps(line, ensure_ascii=False) + '\n' for line in lines))
      file.flush()
      os.fsync(file.fileno())
    self._known.update(record['key'] for record in records)


def load(directory, where, keys=None, names=None):
  """{id: text} of the ids in `where`, from one directory.

  directory: a cache, or the authors' <id>.txt files. where: {id: 'file, line
  n' that asks for it}. keys: {id: key}; a description of another medium or of
  other settings does not count then. names: {id: file name} where the authors'
  files are named otherwise.
  Errors: ValueError naming the first line whose description is missing, or
  that was made with other settings than those before it.
  """
  directory = pathlib.Path(directory).expanduser()
  if not any(directory.glob('*.jsonl')):
    return nrccr.read_descriptions(directory, where, names)
  texts, first = {}, None
  made_with, lines = _read(directory)
  for line, record in lines:
    if record['id'] not in where or (
        keys is not None and record['key'] != keys[record['id']]):
      continue
    first = first or (line, record['settings'])
    if record['settings'] != first[1]:
      raise _mixed(line, made_with[record['settings']],
                   made_with[first[1]], f'{first[0]} has')
    texts[record['id']] = record['text']
  return nrccr.require_descriptions(texts, where, directory, empty_ok=True)


def export_texts(directory, out_dir):
  """Writes <id>.txt of every description; returns how many.

  An id that is no name of a file is written as files.name_of_id has it.
  """
  _, lines = _read(pathlib.Path(directory).expanduser())
  texts = {record['id']: record['text'] for _, record in lines}
  if not texts:
    raise ValueError(f'{directory} holds no descriptions; wanted *.jsonl files '
                     'as a captioning run writes them')
  for name, text in texts.items():
    files.write_atomically(
        pathlib.Path(out_dir).expanduser() / f'{files.name_of_id(name)}.txt',
        text)
  return len(texts)


def import_texts(texts_dir, directory):
  """Reads <id>.txt files into a cache; returns how many."""
  paths = sorted(pathlib.Path(texts_dir).expanduser().glob('*.txt'))
  if not paths:
    raise ValueError(f'{texts_dir} has no .txt file; wanted <id>.txt, one '
                     'description each')
  settings = {'model': IMPORTED, 'source': str(texts_dir)}
  cache = Cache(directory, settings, IMPORTED)
  records = []
  for path in paths:
    text = nrccr.read_description(path)
    name = files.id_of_name(path.name.removesuffix('.txt'))
    digest = hashlib.sha256(f'{fingerprint(settings)}\n{name}'.encode())
    records.append({'key': digest.hexdigest()[:32], 'id': name, 'text': text,
                    'tokens': None, 'finish': IMPORTED})
  keys = [record['key'] for record in records]
  cache.add([records[i] for i in cache.missing(keys)])
  return len(records)


def _read(directory):
  """({fingerprint: settings}, [('file, line n', record)]) of all files."""
  made_with, lines = {}, []
  for path in sorted(directory.glob('*.jsonl')):
    settings, its_lines = _read_file(path)
    for where, record in its_lines:
      if record['settings'] not in settings:
        raise ValueError(f'{where}: got the settings {record["settings"]!r}, '
                         'which no line before says; copy the file again')
    made_with.update(settings)
    lines += its_lines
  return made_with, lines


def _read_file(path):
  made_with, lines = {}, []
  if not path.is_file():
    return made_with, lines
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    try:
      record = json.loads(line)
    except ValueError:
      continue  # empty, or what a killed process was writing
    where = f'{path}, line {number}'
    names = set(record if isinstance(record, dict) else ())
    if names == {'fingerprint', 'settings'} and _texts(
        record, 'fingerprint') and isinstance(record['settings'], dict):
      made_with[record['fingerprint']] = record['settings']
    elif names - {_SUM} == set(_FIELDS) and _texts(record, 'key', 'id', 'text',
                                                   'settings'):
      if record.pop(_SUM, None) in (None, _sum(record)):
        lines.append((where, record))
      else:
        logging.warning('%s is damaged: it does not have its checksum, and '
                        'the description is made again', where)
    else:
      raise ValueError(f'{where}: wanted an object of {", ".join(_FIELDS)}')
  return made_with, lines


def _sum(record):
  return own_files.checksum(json.dumps(
      record, sort_keys=True).encode('utf-8', 'surrogatepass'))


def _texts(record, *names):
  return all(isinstance(record[name], str) for name in names)


def _mixed(where, settings, others, who):
  """The error for a line whose settings are not those that `who` has."""
  name = min(name for name in {*settings, *others}
             if settings.get(name) != others.get(name))
  return ValueError(
      f'{where}: made with {name} {settings.get(name)!r}, {who} '
      f'{others.get(name)!r}: descriptions of different settings do not mix; '
      'remove them or name another directory')


def main(arguments=None):
  parser = argparse.ArgumentParser(
      prog='python -m jaxret.data.descriptions', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--cache', required=True, metavar='DIR')
  way = parser.add_mutually_exclusive_group(required=True)
  way.add_argument('--out', metavar='TEXTS')
  way.add_argument('--texts', metavar='TEXTS')
  chosen = parser.parse_args(arguments)
  try:
    if chosen.out:
      print(f'{export_texts(chosen.cache, chosen.out)} descriptions written')
    else:
      print(f'{import_texts(chosen.texts, chosen.cache)} descriptions read')
  except ValueError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
