"""Searches: the best rows, filters, moments, versions that come and go."""
import threading

import numpy as np
import pytest

import jaxret
from jaxret.indexing import store
from tests import tiny_dual_encoder, tiny_index

tiny_index.lancedb()


@pytest.fixture(scope='module')
def model():
  return tiny_index.model()


@pytest.fixture(scope='module')
def opened(tmp_path_factory, model):
  path = tmp_path_factory.mktemp('query')
  tiny_index.folder(path / 'media')
  jaxret.index(path / 'media', model, path / 'index', window=2,
               show_progress=False)
  return jaxret.open_index(path / 'index', model)


def test_hits_are_those_of_a_full_sort(opened, model):
  rows = tiny_index.rows(opened.path)
  for query in ('a dog', {'image': tiny_index.tiny_unite.pixels(1, 20, 24)}):
    vector = model.encode(query, show_progress=False)
    scores = [float(np.float32(row[3]) @ vector) for row in rows]
    order = np.argsort(scores)[::-1]
    hits = opened.search(query, k=4)
    assert [(hit.path, hit.start_s or 0.0) for hit in hits] == [
        rows[i][:2] for i in order[:4]]
    np.testing.assert_allclose([hit.score for hit in hits],
                               [scores[i] for i in order[:4]], atol=1e-6)
    assert len(opened.search(query, k=100)) == len(rows) == len(opened)
  for query, hits in zip(('a dog', 'up'),
                         opened.search(['a dog', 'up'], k=3)):
    assert [hit.path for hit in hits] == [
        hit.path for hit in opened.search(query, k=3)]


def test_a_moment_of_a_video_is_found(opened):
  clip = jaxret_clip(opened, 2, 4)
  best = opened.search({'video': clip}, k=1)[0]
  assert (best.path, best.start_s, best.end_s, best.duration_s) == (
      'trip/clip.mp4', 2, 4, 5)
  assert best.score == pytest.approx(1, abs=1e-5)
  assert opened.search(opened.vector(best), k=1)[0].row == best.row


def jaxret_clip(opened, start, end):
  from jaxret.data import clips
  return clips.Clip(f'{opened.made.root}/trip/clip.mp4', start, end)


def test_filters(opened):
  def found(**chosen):
    return {hit.path for hit in opened.search('a dog', k=50, **chosen)}
  everything = found()
  assert found(kind='image') == {'a.png', 'b.jpg', 'trip/c.png'}
  assert found(kind='text') == {'note.txt'}
  assert found(folder='trip') == found(folder='./trip/') == {
      'trip/c.png', 'trip/clip.mp4'}
  assert found(folder='.') == everything
  assert found(folder='trip', kind='image') == {'trip/c.png'}
  assert found(min_duration_s=4) == {'trip/clip.mp4'}
  assert found(after=0, before=4e9) == everything
  for chosen, said in (({'folder': 'tri'}, 'nothing in the index has folder'),
                       ({'kind': 'sound'}, "kind is 'sound'"),
                       ({'max_duration_s': 1}, 'max_duration_s 1'),
                       ({'after': 4e9}, 'nothing in the index has after')):
    with pytest.raises(ValueError, match=said):
      found(**chosen)


def test_bad_queries_are_one_line(opened):
  for query, said in (
      ({'text': 'a', 'image': 'b.png'}, 'the query: got text, image'),
      ({'image': 'none.png'}, 'the query: its image cannot be read'),
      (np.ones(3, np.float32), 'the query is 3 wide'), (3, 'not iterable')):
    with pytest.raises((ValueError, TypeError), match=said) as error:
      opened.search(query)
    assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match='k is 0'):
    opened.search('a', k=0)


def test_the_arrays_of_a_finished_run_are_those_of_the_table(
    opened, monkeypatch):
  fast = store.read(opened.path)
  with monkeypatch.context() as patch:
    patch.setattr(store, 'SEARCH', 'none')
    slow = store.read(opened.path)
  np.testing.assert_array_equal(fast.vectors, slow.vectors)
  assert fast.said.to_pylist() == slow.said.to_pylist()
  assert fast.version == slow.version


def test_an_index_that_grows_is_taken_in(tmp_path, model):
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  def add():
    jaxret.index(tmp_path / 'm', model, tmp_path / 'i', show_progress=False)
  add()
  opened = jaxret.open_index(tmp_path / 'i', model)
  hit, = opened.search('a')
  assert not opened.refresh()
  tiny_index.picture(tmp_path / 'm' / 'b.png', 1)
  (tmp_path / 'm' / 'a.png').unlink()
  add()
  assert [one.path for one in opened.search('a')] == ['a.png']
  assert opened.refresh() and not opened.refresh()
  assert [one.path for one in opened.search('a')] == ['b.png']
  with pytest.raises(ValueError, match='the index has changed; search again'):
    opened.vector(hit)


def test_damaged_arrays_are_not_read(tmp_path, model, caplog):
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  jaxret.index(tmp_path / 'm', model, tmp_path / 'i', show_progress=False)
  want = jaxret.open_index(tmp_path / 'i', model).search('a')
  path, = (tmp_path / 'i' / 'search').glob('*/vectors.npy')
  content = bytearray(path.read_bytes())
  content[-3] ^= 4
  path.write_bytes(content)
  assert jaxret.open_index(tmp_path / 'i', model).search('a') == want
  assert 'is damaged: the table itself is read' in caplog.text
  path.write_bytes(content[:-9])
  assert jaxret.open_index(tmp_path / 'i', model).search('a') == want


def test_files_that_are_no_longer_of_the_index(tmp_path, model):
  tiny_index.picture(tmp_path / 'secret.png', 0)
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  jaxret.index(tmp_path / 'm', model, tmp_path / 'i', show_progress=False)
  opened = jaxret.open_index(tmp_path / 'i', model)
  hit, = opened.search('a')
  file = tmp_path / 'm' / 'a.png'
  assert opened.file_of(hit) == str(file)
  file.unlink()
  assert opened.file_of(hit) is None
  file.symlink_to(tmp_path / 'secret.png')
  assert opened.file_of(hit) is None
  with pytest.raises(ValueError, match='no such file any more'):
    opened.item(hit)


def test_threads_search_at_the_same_time(opened):
  want, found = opened.search('a dog', k=5), []
  threads = [threading.Thread(target=lambda: found.append(
      opened.search('a dog', k=5))) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == [want] * 8


def test_the_approximate_index(tmp_path, model):
  for number in range(12):
    tiny_index.picture(tmp_path / "it's" / f'{number}.png', number)
  opened = None
  for ann in (False, True):
    jaxret.index(tmp_path, model, tmp_path / 'i', ann=ann, show_progress=False)
    opened = jaxret.open_index(tmp_path / 'i', model)
    if not ann:
      with pytest.raises(ValueError, match='no approximate index'):
        opened.search('a dog', ann=True)
  exact = opened.search('a dog', k=5)
  near = opened.search('a dog', k=5, ann=True)
  assert [hit.path for hit in near] == [hit.path for hit in exact]
  np.testing.assert_allclose([hit.score for hit in near],
                             [hit.score for hit in exact], atol=0.02)
  assert opened.search('a', ann=True, folder="it's", kind='image')
  assert not opened.search('a', ann=True, folder="it' OR 1=1 --")


def test_an_index_is_opened_by_its_own_model_alone(opened, tmp_path):
  with pytest.raises(ValueError, match='no index is there'):
    jaxret.open_index(tmp_path)
  with pytest.raises(ValueError, match='made by a model that was open, clip'):
    jaxret.open_index(opened.path)
  with pytest.raises(ValueError, match='was made by clip, got siglip: another'):
    jaxret.open_index(opened.path, tiny_dual_encoder.model('siglip'))
