"""Broken files among those that UNITE and MM-Embed are trained on.

A broken header is seen before training; a broken body, which only decoding
shows, is left out when it is drawn. Nothing else is decoded before step 1.
"""
import contextlib
import io
import json

import av
import numpy as np
import PIL.Image
import pytest

from jaxret import checkpoint, train
from jaxret.data import videos
from jaxret.methods import embedding_run
from tests import tiny_embedding, tiny_runs

pytestmark = pytest.mark.usefixtures('one_device')
FIELDS = {'data.shape': (), 'eval.benchmarks': ()}


def png(path, seed):
  pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
  PIL.Image.fromarray(pixels).save(path)


def with_damaged_body(data):
  """A PNG or mp4 with noise in place of half of its content."""
  data, random = bytearray(data), np.random.default_rng(0)
  if data[1:4] == b'PNG':
    parts = [(len(data) // 2, len(data) // 4)]
  else:
    with av.open(io.BytesIO(data)) as file:
      parts = [(packet.pos, packet.size) for packet in file.demux(video=0)
               if packet.size][6:]
  for start, size in parts:
    data[start:start + size] = random.bytes(size)
  return bytes(data)


@pytest.fixture
def folder(tmp_path):
  """Twelve media: 9 images, of which one has a bad body, one a bad header;
  3 clips, of which one has a bad body."""
  root = tmp_path / 'own'
  root.mkdir()
  entries = []
  for i in range(9):
    png(root / f'{i}.png', i)
    entries.append({'image': f'{i}.png', 'caption': f'number {i}'})
  (root / '3.png').write_bytes(with_damaged_body((root / '3.png').read_bytes()))
  (root / '4.png').write_bytes(b'broken')
  for i in range(3):
    (root / f'{i}.mp4').write_bytes(tiny_runs.video_bytes(i))
    entries.append({'video': f'{i}.mp4', 'caption': f'clip {i}'})
  (root / '1.mp4').write_bytes(with_damaged_body(
      (root / '1.mp4').read_bytes()))
  (root / 'captions.json').write_text(json.dumps(entries))
  return root


@pytest.fixture
def decoded(monkeypatch):
  """{file name: frames that were decoded of it}, as it goes on."""
  counts = {}
  def counted(name, frames):
    for frame in frames:
      counts[name] = counts.get(name, 0) + 1
      yield frame

  class Container:
    def __init__(self, whole, name):
      self._whole, self._name = whole, name
    def __getattr__(self, attribute):
      return getattr(self._whole, attribute)
    def decode(self, stream):
      return counted(self._name, self._whole.decode(stream))

  whole_open, whole_load = videos._opened, PIL.Image.Image.load
  @contextlib.contextmanager
  def opened(source):
    with whole_open(source) as (container, stream):
      yield Container(container, str(source).rpartition('/')[2]), stream
  def loaded(image, *args):
    name = str(getattr(image, 'filename', '')).rpartition('/')[2]
    if name:
      counts[name] = counts.get(name, 0) + 1
    return whole_load(image, *args)
  monkeypatch.setattr(videos, '_opened', opened)
  for kind in (PIL.Image.Image, PIL.ImageFile.ImageFile):
    monkeypatch.setattr(kind, 'load', loaded)
  return counts


def flags(root, **fields):
  return tiny_embedding.folder_flags(root, **{**FIELDS, **fields})


def skipped(workdir):
  lines = (workdir / 'skipped.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  assert all(record['split'] == 'train' for record in records)
  assert len({record['id'] for record in records}) == len(records)
  return {record['id']: record['reason'] for record in records}


def test_before_the_first_step_only_headers_are_read(
    folder, tmp_path, decoded, monkeypatch):
  seen = []
  def stop(*args, **options):
    seen.append(dict(decoded))
    raise ValueError('step 1')
  monkeypatch.setattr(embedding_run.train_lib, 'fit', stop)
  assert tiny_embedding.run('folder', tmp_path / 'run', *flags(folder)) == 1
  # Of a clip one frame, for its size; of an image none.
  assert seen == [{f'{i}.mp4': 1 for i in range(3)}]
  assert set(skipped(tmp_path / 'run')) == {'4.png'}


@pytest.mark.slow
def test_a_damaged_body_is_left_out_when_it_is_drawn(
    folder, tmp_path, monkeypatch, caplog):
  drawn = {}
  whole = train._Watch.add
  def add(watch, step, metrics, chosen):
    drawn.setdefault(step, []).append([watch._ids[i] for i in chosen])
    return whole(watch, step, metrics, chosen)
  monkeypatch.setattr(train._Watch, 'add', add)
  steps = flags(folder, **{'train.steps': 6})
  assert tiny_embedding.run('folder', tmp_path / 'run', *steps) == 0
  reasons = skipped(tmp_path / 'run')
  assert set(reasons) == {'3.png', '4.png', '1.mp4'}
  assert 'cannot be read' in reasons['3.png']
  assert '1.mp4: its video cannot be read' in caplog.text
  record = json.loads((tmp_path / 'run/media/train.json').read_text())
  assert len(record['unreadable']) == 1  # what headers show
  # Killed after step 2 and gone on with, it is the same to the bit.
  whole_run = {step: rows[0] for step, rows in drawn.items()}
  drawn.clear()
  with monkeypatch.context() as patch:
    patch.setattr(train.Interruption, 'requested', lambda self, step: step == 2)
    assert tiny_embedding.run('folder', tmp_path / 'again', *steps) == 130
  assert tiny_embedding.run('folder', tmp_path / 'again', *steps) == 0
  assert {step: rows[0] for step, rows in drawn.items()} == whole_run
  assert skipped(tmp_path / 'again') == reasons
  assert weights(tmp_path / 'again') == weights(tmp_path / 'run')


def weights(workdir):
  import orbax.checkpoint as ocp
  with checkpoint.Checkpoints(workdir / 'checkpoints', read_only=True) as found:
    step = found.latest_step()
  tree = ocp.StandardCheckpointer().restore(
      (workdir / 'checkpoints' / str(step) / 'trainable').absolute())
  import jax
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
