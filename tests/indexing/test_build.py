"""An index is what its folder is: new, changed, gone, skipped, killed."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxret
from jaxret import workdir_lock
from jaxret.data import clips
from jaxret.indexing import build, store
from tests import tiny_dual_encoder, tiny_index

tiny_index.lancedb()


@pytest.fixture(scope='module')
def model():
  return tiny_index.model()


@pytest.fixture
def folder(tmp_path):
  return tiny_index.folder(tmp_path / 'media')


def index(folder, model, **options):
  options = {'window': 2, 'batch_size': 4, 'show_progress': False} | options
  return jaxret.index(folder, model, folder.parent / 'index', **options)


def embedded(monkeypatch, model):
  """The ids of what is embedded from now on, a list that grows."""
  seen = []
  encode = model.encode
  def spy(items, *args, **kwargs):
    seen.extend(item.id for item in items)
    return encode(items, *args, **kwargs)
  monkeypatch.setattr(model, 'encode', spy)
  return seen


def test_rows_are_the_embeddings_of_files_and_moments(folder, model):
  done = index(folder, model)
  assert (done.added, done.rows, done.embedded) == (5, 7, 7)
  rows = tiny_index.rows(folder.parent / 'index')
  found = {row[:2]: np.float32(row[3]) for row in rows}
  clip = str(folder / 'trip' / 'clip.mp4')
  given = {
      ('a.png', 0): {'image': str(folder / 'a.png')},
      ('note.txt', 0): 'a dog',
      ('trip/clip.mp4', 0): {'video': clips.Clip(clip, 0, 2)},
      ('trip/clip.mp4', 2): {'video': clips.Clip(clip, 2, 4)},
      ('trip/clip.mp4', 3): {'video': clips.Clip(clip, 3, 5)}}
  assert set(given) < set(found) and len(found) == 7
  for key, item in given.items():
    np.testing.assert_allclose(found[key], model.encode(
        item, show_progress=False), atol=1e-6)
  skipped = {one.path: one.reason for one in done.skipped}
  assert set(skipped) == {'broken.mp4', 'empty.png', 'table.csv'}
  assert skipped['empty.png'] == 'the file is empty'
  lines = (folder.parent / 'index' / 'skipped.jsonl').read_text().splitlines()
  assert {json.loads(line)['path'] for line in lines} == set(skipped)


def test_what_is_new_changed_or_gone(folder, model, monkeypatch):
  index(folder, model)
  seen = embedded(monkeypatch, model)
  done = index(folder, model)
  assert (done.unchanged, done.added, seen) == (5, 0, [])
  assert {one.path for one in done.skipped} == {
      'broken.mp4', 'empty.png', 'table.csv'}
  tiny_index.picture(folder / 'new.png', 7)
  tiny_index.picture(folder / 'a.png', 8)
  (folder / 'b.jpg').unlink()
  os.utime(folder / 'note.txt', (1, 1))  # touched, and the same
  done = index(folder, model)
  assert sorted(seen) == ['a.png', 'new.png']
  assert (done.added, done.changed, done.gone, done.unchanged) == (1, 1, 1, 3)
  again = folder.parent / 'again'
  jaxret.index(folder, model, again, window=2, batch_size=4,
               show_progress=False)
  # Alone or in company, an embedding differs in its last bits.
  want, got = tiny_index.rows(again), tiny_index.rows(folder.parent / 'index')
  assert [row[:3] for row in got] == [row[:3] for row in want]
  np.testing.assert_allclose([row[3] for row in got], [row[3] for row in want],
                             atol=1e-6)
  seen.clear()
  assert index(folder, model).unchanged == 5 and not seen


def test_what_was_broken_and_is_mended_and_the_other_way(folder, model):
  index(folder, model)
  shutil.copy(folder / 'trip' / 'clip.mp4', folder / 'broken.mp4')
  (folder / 'b.jpg').write_bytes(b'no picture')
  done = index(folder, model)
  assert (done.added, done.rows) == (1, 9)
  assert 'b.jpg' not in {row[0] for row in tiny_index.rows(
      folder.parent / 'index')}
  assert {one.path for one in done.skipped} == {
      'b.jpg', 'empty.png', 'table.csv'}


def test_what_could_not_be_used_is_tried_again_when_asked(
    folder, model, monkeypatch):
  from jaxret.indexing import look
  index(folder, model)
  tried, digest = [], look.digest
  monkeypatch.setattr(look, 'digest', lambda one: (
      tried.append(one.path), digest(one))[1])
  index(folder, model)
  assert tried == []
  index(folder, model, retry=True)
  assert sorted(tried) == ['broken.mp4', 'empty.png']


def test_captions_are_kept_and_said_anew(tmp_path, model, monkeypatch):
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  path = tmp_path / 'm' / 'captions.json'
  def write(caption):
    path.write_text(json.dumps([{'image': 'a.png', 'caption': caption},
                                {'text': "it's a dog"}]))
  write('a "dog"')
  jaxret.index(path, model, tmp_path / 'index', show_progress=False)
  seen = embedded(monkeypatch, model)
  write("one's cat\nor two")
  done = jaxret.index(path, model, tmp_path / 'index', show_progress=False)
  assert (done.unchanged, seen) == (2, [])
  said = store.read(tmp_path / 'index').said.to_pylist()
  assert {row['path']: (row['caption'], row['text']) for row in said} == {
      'a.png': ("one's cat\nor two", None),
      'captions.json:2': (None, "it's a dog")}


def test_half_precision(folder, model):
  index(folder, model, precision='float16')
  found = store.read(folder.parent / 'index')
  assert found.vectors.dtype == np.float16 and len(found.vectors) == 7


@pytest.mark.parametrize('change, said', [
    ({'window': 3}, 'was made with window 2.0, got 3'),
    ({'stride': 1}, 'was made with stride 2.0, got 1'),
    ({'precision': 'float16'}, 'was made with precision float32'),
    ({'follow_links': True}, 'was made with follow_links False')])
def test_an_index_keeps_its_settings(folder, model, change, said):
  index(folder, model)
  with pytest.raises(ValueError, match=said):
    index(folder, model, **change)
  assert index(folder, model, window=None).unchanged == 5


def test_another_model_or_folder_is_refused_by_name(folder, model, tmp_path):
  index(folder, model)
  other = tiny_dual_encoder.model('siglip')
  with pytest.raises(ValueError, match='made by clip, got siglip: another '
                     'model, width, sizes of the model, tokenizer, prompt or '
                     'resolution, weights; use the model') as error:
    index(folder, other)
  assert '\n' not in str(error.value)
  tiny_index.picture(tmp_path / 'elsewhere' / 'a.png', 0)
  with pytest.raises(ValueError, match='is of the folder .*media, got '):
    jaxret.index(tmp_path / 'elsewhere', model, tmp_path / 'index')
  assert index(folder, model).unchanged == 5


@pytest.mark.parametrize('options, said', [
    ({'window': -1}, 'window is -1'), ({'stride': 5}, 'stride is 5 s'),
    ({'precision': 'int8'}, "precision is 'int8'"),
    ({'dtype': 'float32'}, 'dtype has no effect on a model that is open')])
def test_what_is_wrong_is_said_before_anything_is_written(
    folder, model, options, said):
  with pytest.raises(ValueError, match=said):
    index(folder, model, **options)
  assert not (folder.parent / 'index' / store.NAME).exists()


def test_nothing_to_index(tmp_path, model):
  with pytest.raises(ValueError, match='nothing to index'):
    jaxret.index(tmp_path, model, tmp_path / 'index')
  (tmp_path / 'file').write_text('')
  tiny_index.picture(tmp_path / 'a.png', 0)
  with pytest.raises(ValueError, match='a file is there; name a directory'):
    jaxret.index(tmp_path, model, tmp_path / 'file')


def test_a_folder_that_was_emptied_is_forgotten(folder, model):
  index(folder, model)
  shutil.rmtree(folder / 'trip')
  for path in folder.glob('*.*'):
    path.unlink()
  done = index(folder, model)
  assert (done.gone, done.rows) == (5, 0)


def test_two_runs_at_once(folder, model):
  with workdir_lock.held(folder.parent / 'index'):
    with pytest.raises(ValueError, match='is in use by process') as error:
      index(folder, model)
  assert '\n' not in str(error.value)


def test_a_block_holds_whole_files_and_a_run_that_stops_goes_on(
    folder, model, monkeypatch):
  """It stops behind the second block; what is there is not embedded again."""
  monkeypatch.setattr(build, 'BLOCK_ROWS', 2)
  add, calls = store.Table.add, []
  def stop(self, rows, vectors):
    calls.append([row['path'] for row in rows])
    if len(calls) == 3:
      raise KeyboardInterrupt
    add(self, rows, vectors)
  monkeypatch.setattr(store.Table, 'add', stop)
  with pytest.raises(KeyboardInterrupt):
    index(folder, model)
  assert calls[2].count('trip/clip.mp4') == 3
  first = tiny_index.rows(folder.parent / 'index')
  assert [row[0] for row in first] == ['a.png', 'b.jpg', 'note.txt',
                                       'trip/c.png']
  monkeypatch.setattr(store.Table, 'add', add)
  seen = embedded(monkeypatch, model)
  assert index(folder, model).rows == 7
  assert {name.partition(' at ')[0] for name in seen} == {'trip/clip.mp4'}


@pytest.mark.slow  # processes of their own, each of which compiles
def test_killed_again_and_again_it_ends_with_the_same_rows(tmp_path):
  media = tmp_path / 'media'
  for number in range(60):
    tiny_index.picture(media / f'{number}.png', number)
  def start(out):
    code = ('from jaxret.indexing import build; import jaxret, sys; '
            'build.BLOCK_ROWS = 4; '
            'print(jaxret.index(sys.argv[1], sys.argv[2], sys.argv[3]))')
    return subprocess.Popen(
        [sys.executable, '-c', code, media, tiny_index.CLIP, out],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
  assert start(tmp_path / 'whole').wait() == 0
  out, kills, before = tmp_path / 'killed', 0, 0
  while kills < 3:
    process = start(out)
    versions = out / 'items.lance' / '_versions'
    def written(versions=versions):
      return len(list(versions.glob('*'))) if versions.is_dir() else 0
    while process.poll() is None and written() <= before + 2:
      time.sleep(0.01)
    if process.poll() is not None:
      break
    before = written()
    process.send_signal(signal.SIGKILL)
    process.wait()
    kills += 1
  assert kills
  assert start(out).wait() == 0
  want, got = (tiny_index.rows(one) for one in (tmp_path / 'whole', out))
  assert [row[:3] for row in got] == [row[:3] for row in want]
  assert len(got) == 60
  np.testing.assert_allclose([row[3] for row in got], [row[3] for row in want],
                             atol=1e-6)
