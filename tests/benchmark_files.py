"""A benchmark's files, for tests: written, read and refused."""
import json

import pyarrow
import pyarrow.parquet
import pytest

from jaxret.data import sets


def write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    path.write_text(content if isinstance(content, str)
                    else json.dumps(content))


def parquet(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def texts(items):
  return [item.text for item in items]


def relevant(task):
  return [indices.tolist() for indices in task.relevant]


def refused(name, root, *parts, **arguments):
  with pytest.raises(ValueError) as error:
    sets.tasks(name, root, **arguments)
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message
