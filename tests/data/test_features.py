import concurrent.futures
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxret.data import features, records, types

IDS = [f'video{i}' for i in range(11)]
SHAPE = (2, 3, 4)  # clips, tokens, width


def _videos(ids=IDS):
  return [types.Item(video_id) for video_id in ids]


def _feature(i):
  return np.random.default_rng(i).normal(size=SHAPE).astype(np.float16)


class Tower:
  """A stand-in that notes what it is asked for, and may die."""

  def __init__(self, dies_after=None):
    self.calls, self.dies_after = [], dies_after

  def __call__(self, indices):
    if self.dies_after is not None and len(self.calls) >= self.dies_after:
      raise KeyboardInterrupt
    self.calls.append(indices.tolist())
    return np.stack([_feature(i) for i in indices])


def _write(out_dir, tower=None, **arguments):
  arguments = {'batch_size': 2, 'part_size': 3, 'progress': False,
               'fingerprint': {'weights': 'a'}} | arguments
  features.write_features(out_dir, IDS, tower or Tower(), **arguments)


def _fails(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  assert '\n' not in str(error.value)
  for part in parts:
    assert part in str(error.value), error.value


def _assert_stored(out_dir):
  store = features.FeatureStore(out_dir, _videos())
  assert len(store) == len(IDS) and store.shape == SHAPE
  for i in range(len(IDS)):
    assert store[i].dtype == np.float16
    np.testing.assert_array_equal(store[i], _feature(i))


def test_features_come_back_bit_for_bit(tmp_path):
  tower = Tower()
  _write(tmp_path, tower)
  _assert_stored(tmp_path)
  # Static shapes for the compiler: always batch_size indices.
  assert all(len(call) == 2 for call in tower.calls)
  assert tower.calls[:2] == [[0, 1], [2, 2]]
  assert sorted(p.name for p in tmp_path.iterdir()) == [
      'manifest.json', 'records']


def test_store_is_aligned_with_the_videos_asked_for(tmp_path):
  _write(tmp_path)
  store = features.FeatureStore(tmp_path, _videos(['video7', 'video2']))
  np.testing.assert_array_equal(store[0], _feature(7))
  np.testing.assert_array_equal(store[1], _feature(2))


def test_store_is_read_by_many_threads(tmp_path):
  _write(tmp_path)
  store = features.FeatureStore(tmp_path, _videos())
  order = np.random.default_rng(0).integers(len(IDS), size=200)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for i, feature in zip(order, pool.map(store.__getitem__, order)):
      np.testing.assert_array_equal(feature, _feature(i))


@pytest.mark.parametrize('dies_after', [1, 2, 5])
def test_a_killed_pass_goes_on_at_the_missing_part(tmp_path, dies_after):
  with pytest.raises(KeyboardInterrupt):
    _write(tmp_path, Tower(dies_after))
  done = dies_after // 2  # parts of two batches
  _fails(lambda: features.FeatureStore(tmp_path, _videos()), 'not finished')
  tower = Tower()
  _write(tmp_path, tower)
  assert min(i for call in tower.calls for i in call) == 3 * done
  _assert_stored(tmp_path)
  again = Tower(dies_after=0)
  _write(tmp_path, again)  # nothing left to do
  assert not again.calls


def test_an_interrupted_build_is_made_again(tmp_path):
  writer = features.FeatureWriter(tmp_path, IDS, {}, part_size=4)
  writer.run(Tower(), 4, progress=False)
  (tmp_path / 'records' / 'incomplete.X_1.0.0').mkdir(parents=True)
  writer.finish()
  _assert_stored(tmp_path)
  assert [p.name for p in (tmp_path / 'records').iterdir()] == ['1.0.0']


def test_processes_share_the_parts(tmp_path):
  towers = [Tower() for _ in range(3)]
  writers = [features.FeatureWriter(tmp_path, IDS, {}, part_size=2)
             for _ in towers]
  for p, (writer, tower) in enumerate(zip(writers, towers)):
    if p == 2:
      _fails(writers[0].finish, '2 of 6 parts are missing', 'first is 2')
    writer.run(tower, 2, p, 3, progress=False)
  writers[0].finish()
  _assert_stored(tmp_path)
  seen = [i for tower in towers for call in tower.calls for i in set(call)]
  assert sorted(seen) == list(range(len(IDS)))


@pytest.mark.parametrize('arguments, part', [
    ({'fingerprint': {'weights': 'b'}}, "fingerprint.weights 'a', now it is"),
    ({'fingerprint': {}}, "fingerprint.weights 'a', now it is None"),
    ({'part_size': 4}, 'part_size 3, now it is 4')])
def test_another_fingerprint_is_refused_by_field(tmp_path, arguments, part):
  _write(tmp_path)
  _fails(lambda: _write(tmp_path, **arguments), part, str(tmp_path))


def test_other_videos_are_refused(tmp_path):
  _write(tmp_path)
  ids = IDS[:4] + ['other'] + IDS[5:]
  _fails(lambda: features.FeatureWriter(tmp_path, ids, {'weights': 'a'}, 3),
         'other ids', "difference at 4: 'video4' there, 'other' now")


def test_missing_features_are_named_or_zeros(tmp_path):
  _write(tmp_path)
  videos = _videos(['video1', 'new', 'video3', 'newer'])
  assert features.missing_ids(tmp_path, videos) == ['new', 'newer']
  _fails(lambda: features.FeatureStore(tmp_path, videos), "'new'", '2 of 4')
  store = features.FeatureStore(tmp_path, videos, missing='zeros')
  assert store[1].shape == SHAPE and store[1].dtype == np.float16
  assert not store[1].any()
  np.testing.assert_array_equal(store[2], _feature(3))
  _fails(lambda: features.FeatureStore(tmp_path, videos, 'skip'), "'zeros'")


def test_records_that_do_not_match_the_manifest_are_found(tmp_path):
  _write(tmp_path)
  path = tmp_path / 'manifest.json'
  manifest = json.loads(path.read_text())
  manifest['ids'][:2] = manifest['ids'][1::-1]
  path.write_text(json.dumps(manifest))
  store = features.FeatureStore(tmp_path, _videos())
  _fails(lambda: store[0], "'video0' belongs to 'video1'", str(tmp_path))


@pytest.mark.parametrize('manifest', [
    {}, {'content': 'features'}, {'content': 'features', 'ids': 'video0'},
    {'content': 'features', 'ids': [1, None]}])
def test_a_manifest_without_ids_is_refused_by_directory(tmp_path, manifest):
  _write(tmp_path)
  (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
  for call in (features.missing_ids, features.FeatureStore):
    _fails(lambda call=call: call(tmp_path, _videos()), str(tmp_path))


@pytest.mark.parametrize('spoil', [
    lambda data: data[:len(data) // 2], lambda data: b'',
    lambda data: data[:-400] + bytes([data[-400] ^ 1]) + data[-399:]])
def test_a_damaged_part_is_refused_by_name_and_made_again(tmp_path, spoil):
  writer = features.FeatureWriter(tmp_path, IDS, {}, part_size=4)
  writer.run(Tower(), 4, progress=False)
  part = tmp_path / 'parts' / '00001.npz'
  part.write_bytes(spoil(part.read_bytes()))
  _fails(writer.finish, f'{part} is damaged')
  part.unlink()
  writer.run(Tower(), 4, progress=False)
  writer.finish()
  _assert_stored(tmp_path)


def test_a_data_set_that_lost_its_index_is_made_again(tmp_path):
  for _ in range(2):
    writer = features.FeatureWriter(tmp_path, IDS, {}, part_size=4)
    writer.run(Tower(), 4, progress=False)
    writer.finish()
    _assert_stored(tmp_path)
    (tmp_path / 'records' / '1.0.0' / 'dataset_info.json').unlink()


@pytest.mark.parametrize('bad, part', [
    (np.zeros((2, 3, 4)), 'got shape (2, 3, 4)'),
    (np.zeros((4, 2, 3, 4)), 'wanted [3, clips'),
    (np.full((3, 2, 3, 4), 1e6), "'video0' are not finite"),
    (np.full((3, 2, 3, 4), np.nan), "'video0' are not finite")])
def test_bad_features_are_refused(tmp_path, bad, part):
  writer = features.FeatureWriter(tmp_path, IDS, {}, part_size=3)
  _fails(lambda: writer.write(0, bad), part)
  assert writer.pending() == [0, 1, 2, 3]


def test_bad_id_lists(tmp_path):
  _fails(lambda: features.FeatureWriter(tmp_path, [], {}), 'no videos')
  _fails(lambda: features.FeatureWriter(tmp_path, ['a', 'b', 'a'], {}),
         "two videos have the id 'a'")


@pytest.fixture
def split(tmp_path):
  media = tmp_path / 'media'
  media.mkdir()
  for name in ('a.mp4', 'c.png'):
    (media / name).write_bytes(f'bytes of {name}'.encode() * 100)
  videos = (types.Item('a', video=str(media / 'a.mp4')),
            types.Item('b', video=str(media / 'b.mp4')),
            types.Item('c', image=str(media / 'c.png')))
  texts = tuple(types.Item(f't{i}', text=f'text {i} ä') for i in range(4))
  return types.Split('folder', 'test', videos, texts,
                     np.array([2, 0, 1, 2], np.int32))


def test_videos_come_back_with_their_captions(split, tmp_path):
  out_dir = tmp_path / 'out'
  skipped = features.write_videos(out_dir, split, progress=False)
  assert [record['id'] for record in skipped] == ['b']
  assert 'b.mp4' in skipped[0]['reason']
  manifest = records.read_manifest(out_dir)
  assert (manifest['dataset'], manifest['split']) == ('folder', 'test')
  assert manifest['ids'] == ['a', 'c']
  assert manifest['texts'] == [['t0', 'text 0 ä'], ['t1', 'text 1 ä'],
                               ['t3', 'text 3 ä']]
  assert manifest['text_video'] == [1, 0, 1]
  store = features.VideoStore(out_dir, split.videos[::-2])
  assert store[0] == types.Item('c', image=b'bytes of c.png' * 100)
  assert store[1] == types.Item('a', video=b'bytes of a.mp4' * 100)
  captions = [json.loads(r['captions']) for r in records.read(out_dir)]
  assert captions == [['text 1 ä'], ['text 0 ä', 'text 3 ä']]
  assert features.write_videos(out_dir, split, progress=False) == skipped


def test_stores_refuse_what_they_cannot_read(split, tmp_path):
  _fails(lambda: features.FeatureStore(tmp_path / 'none', _videos()),
         'holds no stored videos or features')
  features.write_videos(tmp_path / 'out', split, progress=False)
  _fails(lambda: features.FeatureStore(tmp_path / 'out', _videos()),
         'holds videos, wanted features')
  for video in split.videos:
    pathlib.Path(video.video or video.image).unlink(missing_ok=True)
  _fails(lambda: features.write_videos(tmp_path / 'new', split, False),
         'none of the 3 files')


def test_neither_tensorflow_nor_output(tmp_path):
  script = f"""
import sys
import numpy as np
from jaxret.data import features, types
features.write_features({str(tmp_path)!r}, ['a'],
                        lambda i: np.ones((2, 1, 1, 1)), {{}}, batch_size=2,
                        progress=False)
store = features.FeatureStore({str(tmp_path)!r}, [types.Item('a')])
assert store[0] == 1
for name in ('tensorflow', 'jax', 'torch'):
  assert name not in sys.modules, name
"""
  done = subprocess.run([sys.executable, '-c', script], check=True,
                        capture_output=True, text=True)
  assert done.stdout == ''
