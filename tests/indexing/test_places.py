"""An index in an object store: the same as one in a directory."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxret
from jaxret.indexing import build, lease, places, store
from tests import bucket, tiny_dual_encoder, tiny_index

tiny_index.lancedb()


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  with bucket.served(tmp_path_factory.mktemp('bucket') / 'log') as found:
    yield found


@pytest.fixture
def there(environment, monkeypatch, tmp_path):
  """A URL of its own for each test; nothing in the user's own cache."""
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return f's3://bucket/{tmp_path.name}/index'


@pytest.fixture(scope='module')
def model():
  return tiny_index.model()


def index(folder, model, out, **options):
  return jaxret.index(folder, model, out, window=2, batch_size=4,
                      show_progress=False, **options)


def test_it_holds_what_a_directory_does(there, model, tmp_path, monkeypatch):
  folder = tiny_index.folder(tmp_path / 'media')
  want = index(folder, model, tmp_path / 'index')
  assert str(index(folder, model, there)) == str(want)
  assert tiny_index.rows(there) == tiny_index.rows(tmp_path / 'index')
  assert {one.path for one in store.read_skipped(there)} == {
      'broken.mp4', 'empty.png', 'table.csv'}
  hits = jaxret.open_index(there, model).search('a dog', k=3)
  assert [(hit.path, hit.score) for hit in hits] == [
      (hit.path, hit.score) for hit in jaxret.open_index(
          tmp_path / 'index', model).search('a dog', k=3)]
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
  opened = jaxret.open_index(there, model)  # by another machine
  assert opened.search('a dog', k=3) == hits
  def missing():
    raise AssertionError('the table is opened')
  monkeypatch.setattr(store, 'lancedb', missing)  # what was read is kept
  assert jaxret.open_index(there, model).search('a dog', k=3) == hits


def test_a_second_run_adds_what_is_new_and_open_indexes_take_it_in(
    there, model, tmp_path):
  folder = tiny_index.folder(tmp_path / 'media')
  index(folder, model, there)
  opened = jaxret.open_index(there, model)
  assert len(opened) == 7 and not opened.refresh()
  tiny_index.picture(folder / 'new.png', 7)
  (folder / 'b.jpg').unlink()
  done = index(folder, model, there)
  assert (done.added, done.gone, done.embedded, done.unchanged) == (1, 1, 1, 4)
  assert opened.refresh()
  assert {hit.path for hit in opened.search('a dog', k=99)} == {
      'a.png', 'new.png', 'note.txt', 'trip/c.png', 'trip/clip.mp4'}
  assert index(folder, model, there).embedded == 0


def test_one_that_was_made_anew_is_not_taken_for_the_old_one(
    there, model, tmp_path):
  """Its versions have the same numbers."""
  import obstore
  found = []
  for seed in (0, 1):
    tiny_index.picture(tmp_path / 'media' / 'a.png', seed)
    index(tmp_path / 'media', model, there)
    place = places.of(there)
    found.append((min(place.states('items.lance/_versions')),
                  tiny_index.rows(there)))
    for part in list(obstore.list(place._store)):
      obstore.delete(place._store, [one['path'] for one in part])
  assert found[0][0] == found[1][0] and found[0][1] != found[1][1]


@pytest.mark.slow  # two models
def test_another_model_is_refused(there, model, tmp_path):
  tiny_index.picture(tmp_path / 'media' / 'a.png', 0)
  index(tmp_path / 'media', model, there)
  with pytest.raises(ValueError, match=f'{there} was made by clip, got siglip'):
    index(tmp_path / 'media', tiny_dual_encoder.model('siglip'), there)


def test_another_writer_is_refused(there, model, tmp_path, monkeypatch):
  tiny_index.picture(tmp_path / 'media' / 'a.png', 0)
  index(tmp_path / 'media', model, there)
  monkeypatch.setattr(lease, 'LEASE_S', 2.0)
  with places.of(there).held():
    with pytest.raises(ValueError, match=f'{there} is in use by process'):
      index(tmp_path / 'media', model, there)
  assert index(tmp_path / 'media', model, there).unchanged == 1


def test_a_run_that_lost_its_hold_stops_before_it_writes(
    there, model, tmp_path, monkeypatch):
  for number in range(6):
    tiny_index.picture(tmp_path / 'media' / f'{number}.png', number)
  monkeypatch.setattr(build, 'BLOCK_ROWS', 2)
  add, calls = store.Table.add, []
  def lose(self, *given):
    calls.append(given)
    if len(calls) == 2:
      self._check.__self__._lost = True
    add(self, *given)
  monkeypatch.setattr(store.Table, 'add', lose)
  with pytest.raises(ValueError, match='lost hold of the index'):
    index(tmp_path / 'media', model, there)
  assert len(tiny_index.rows(there)) == 2
  monkeypatch.setattr(store.Table, 'add', add)
  assert index(tmp_path / 'media', model, there).embedded == 4


def test_what_is_wrong_is_said_in_one_line(there, model, tmp_path, monkeypatch):
  tiny_index.picture(tmp_path / 'media' / 'a.png', 0)
  for url, said in (
      ('http://host/i', 'in a directory of this machine or at s3://, gs://'),
      ('s3:///i', 'want s3://BUCKET/NAME'), ('s3://bucket', 'want s3://BUCKET'),
      ('s3://key@bucket/i', 'keys are taken from'),
      ('s3://bucket/../i', 'want s3://BUCKET/NAME'),
      ('s3://none/i', 's3://none/i cannot be reached'),
      (there, f'{there}: no index is there')):
    with pytest.raises(ValueError, match=said) as error:
      (jaxret.open_index(url, model) if url == there else
       index(tmp_path / 'media', model, url))
    assert '\n' not in str(error.value)
  monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
  with pytest.raises(ValueError, match=f'{there} cannot be reached'):
    jaxret.open_index(there, model)


@pytest.mark.slow  # processes of their own, each of which compiles
def test_killed_it_goes_on_with_the_next_file(there, tmp_path):
  media = tmp_path / 'media'
  for number in range(40):
    tiny_index.picture(media / f'{number}.png', number)
  def start(out):
    code = ('from jaxret.indexing import build, lease; import jaxret, sys; '
            'build.BLOCK_ROWS = 4; lease.LEASE_S = 4; '
            'print(jaxret.index(*sys.argv[1:]))')
    return subprocess.Popen([sys.executable, '-c', code, media, tiny_index.CLIP,
                             out], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
  process, place = start(there), places.of(there)
  while len(place.states('items.lance/_versions')) < 4:
    assert process.poll() is None
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  kept = len(tiny_index.rows(there))
  assert 0 < kept < 40 and place.read(lease.NAME)
  process = start(there)
  said, _ = process.communicate()
  assert process.returncode == 0 and f'{kept:,} as they were' in said
  process = start(tmp_path / 'whole')
  process.communicate()
  want, got = tiny_index.rows(tmp_path / 'whole'), tiny_index.rows(there)
  assert [row[:3] for row in got] == [row[:3] for row in want]
  np.testing.assert_allclose([row[3] for row in got], [row[3] for row in want],
                             atol=1e-6)
