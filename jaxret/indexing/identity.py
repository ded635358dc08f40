"""Which model an index was made by, told from what the model does.

Vectors of two models look alike and compare to nothing. A model is its weights,
its sizes, and what its reader makes of things: of a text, a picture and a clip
that never change, so that a tokenizer, a prompt or a resolution that is another
one shows, whatever its files are called.
"""
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxret import embedder, loading, sharding
from jaxret.data import media, types
from jaxret.models import pretrained

SETTINGS = ('resolution', 'policy', 'max_tokens', 'alpha', 'mrope')


def of_model(model: embedder.Embedder, weights: str | None = None
             ) -> dict[str, Any]:
  """What tells a model from others, for JSON.

  weights: its checksum where that is known; it reads all parameters.
  """
  return {'name': model.config.name, 'width': model.width,
          'sizes': _digest(repr(model.config).encode()),
          'reader': reads(model.reader), 'reading': media.READING,
          'weights': weights or sharding.checksum(model.params)}


def reads(reader: Any) -> str:
  """A digest of what a reader makes of the probes, and how it is set."""
  total = hashlib.sha256()
  for name in SETTINGS:
    value = getattr(reader, name, None)
    shown = getattr(value, 'resolution', value)  # of a policy
    if ' object at 0x' not in repr(shown):
      total.update(f'{name}={shown!r};'.encode())
  for probe in _probes():
    try:
      read = reader(probe)
      arrays = reader.pad([read], reader.bucket(read))
      for name in sorted(arrays):
        array = np.asarray(arrays[name])
        total.update(f'{name}{array.dtype}{array.shape}'.encode())
        total.update(np.ascontiguousarray(array).tobytes())
    except ValueError:  # a model of texts alone sees nothing
      total.update(f'{probe.id} is refused'.encode())
  return total.hexdigest()[:16]


@functools.cache
def _probes():
  rng = np.random.default_rng(0)
  still = rng.integers(0, 256, (40, 56, 3), np.uint8)
  moving = rng.integers(0, 256, (20, 32, 48, 3), np.uint8)
  texts = 'A Dog.', '2 cats?', 'é <b>', 'snow snow'  # few have room for more
  return (*(types.Item(f'text {text}', text) for text in texts),
          types.Item('an image', image=still),
          types.Item('a video', video=moving))


def _digest(data):
  return hashlib.sha256(data).hexdigest()[:16]


def files_of(path: str | os.PathLike) -> dict[str, list[int]]:
  """{file: [size, time of change in ns]} of what a model is opened from.

  Where these stay as they are, its weights do, too.
  """
  root = pathlib.Path(path).expanduser()
  root = root if root.exists() else pretrained.find_model(path)
  parts = [root]
  if loading.is_workdir(root):
    parts = [root / 'checkpoints', root / 'tokenizer', root / 'config.json']
  files = sorted(file for part in parts
                 for file in ([part] if part.is_file() else part.rglob('*'))
                 if file.is_file())
  return {file.relative_to(root).as_posix(): [
      file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def difference(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> str:
  """What tells two models apart, in words; '' where nothing does."""
  words = {'name': 'model', 'width': 'width', 'sizes': 'sizes of the model',
           'reader': 'tokenizer, prompt or resolution',
           'reading': 'way of reading media', 'weights': 'weights'}
  found = [word for key, word in words.items()
           if wanted.get(key) != got.get(key)]
  return ', '.join(found)
