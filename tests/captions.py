"""Caption files and what is said of them, for tests of data sets."""
import json

import ml_collections
import pytest

from jaxret.data import sets


def section(name, root=None, **fields):
  fields = fields | ({} if root is None else {'root': str(root)})
  return ml_collections.ConfigDict({'name': name, **fields}).lock()


def write(path, entries):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(entries))


def touch(*paths):
  for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'x')


def fails(section, split, *parts):
  with pytest.raises(ValueError) as error:
    sets.load(section, split)
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


def texts(split):
  return [text.text for text in split.texts]


def annotate(root, name, train, test):
  """Writes a benchmark's files in the layout of BLiM's authors."""
  annotations = sets.get(name).ANNOTATIONS
  write(root / annotations.train, train)
  write(root / annotations.test, test)
