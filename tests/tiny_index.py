"""A small folder of one's own media, and a tiny model that reads it."""
import pathlib

import numpy as np
import PIL.Image
import pytest

from tests import numbered_videos, tiny_dual_encoder, tiny_unite

REASON = "LanceDB is not installed: pip install -e '.[index]'"
# The tests' own tiny CLIP as transformers writes it.
CLIP = pathlib.Path(__file__).parent / 'golden' / 'clip' / 'model'


def lancedb():
  return pytest.importorskip('lancedb', reason=REASON)


def picture(path, seed, height=20, width=24):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(tiny_unite.pixels(seed, height, width)).save(path)


def folder(path):
  """Three images, a video of 5 s, a text, and what cannot be used."""
  picture(path / 'a.png', 0)
  picture(path / 'b.jpg', 1)
  picture(path / 'trip' / 'c.png', 2)
  (path / 'trip' / 'clip.mp4').write_bytes(numbered_videos.video(125))
  (path / 'note.txt').write_text('a dog')
  (path / 'broken.mp4').write_bytes(b'\0' * 100)
  (path / 'empty.png').write_bytes(b'')
  (path / 'table.csv').write_text('1,2')
  return path


def model(name='clip', **options):
  return tiny_dual_encoder.model(name, **options)


def rows(index):
  """What an index holds, sorted, with vectors: [(path, start, vector)]."""
  from jaxret.indexing import store
  found = store.read(index)
  vectors = np.asarray(found.vectors, np.float32)
  return sorted(
      (row['path'], row['start_s'] or 0.0, row['kind'], tuple(vector.tolist()))
      for row, vector in zip(found.said.to_pylist(), vectors))
