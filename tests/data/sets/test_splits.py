import json
import sys
import types as python_types

import ml_collections
import numpy as np
import pytest

from jaxret.data.sets import splits as sources


def _config(name, root=None, **fields):
  fields = fields | ({} if root is None else {'root': str(root)})
  return ml_collections.ConfigDict({'name': name, **fields}).lock()


def _write(path, entries):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(entries))


def _touch(*paths):
  for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'x')


def _fails(config, split, *parts):
  with pytest.raises(ValueError) as error:
    sources.load(config, split)
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


def _texts(split):
  return [text.text for text in split.texts]


@pytest.fixture
def folder(tmp_path):
  """Six entries, four media, looked up in the three places."""
  _touch(tmp_path / 'a.mp4', tmp_path / 'videos/b.mp4',
         tmp_path / 'images/c.png')
  _write(tmp_path / 'captions.json', [
      {'video': 'b.mp4', 'caption': ' first of b '},
      {'video': 'a.mp4', 'caption': ['one of a', 'two of a']},
      {'image': 'c.png', 'caption': 'of c', 'note': 'other fields are free'},
      {'video': 'b.mp4', 'caption': 'second of b'},
      {'video': 'missing.mp4', 'caption': 'of a missing file'}])
  return tmp_path


def test_folder_keeps_the_order_and_all_captions(folder):
  split = sources.load(_config('folder', folder), 'test')
  assert (split.dataset, split.name) == ('folder', 'test')
  assert [v.id for v in split.videos] == [
      'b.mp4', 'a.mp4', 'c.png', 'missing.mp4']
  assert _texts(split) == ['first of b', 'one of a', 'two of a', 'of c',
                           'second of b', 'of a missing file']
  assert [t.id for t in split.texts] == [
      'b.mp4#0', 'a.mp4#0', 'a.mp4#1', 'c.png#0', 'b.mp4#1', 'missing.mp4#0']
  assert split.text_video.dtype == np.int32
  assert split.text_video.tolist() == [0, 1, 1, 2, 0, 3]


def test_folder_finds_files_and_keeps_missing_ones(folder):
  videos = sources.load(_config('folder', folder), 'test').videos
  assert [v.video or v.image for v in videos] == [
      str(folder / name) for name in
      ('videos/b.mp4', 'a.mp4', 'images/c.png', 'missing.mp4')]
  assert videos[2].video is None and videos[0].image is None


def _labelled(root, labels):
  names = [f'{i}.mp4' for i in range(len(labels))]
  _touch(*(root / name for name in names))
  _write(root / 'captions.json', [
      {'video': name, 'caption': f'text {name}'} | (
          {'split': label} if label else {})
      for name, label in zip(names, labels)])
  return root


def test_folder_splits_by_label(tmp_path):
  root = _labelled(tmp_path, ['train', 'test', 'validation', 'train'])
  ids = {split: [v.id for v in sources.load(
      _config('folder', root, validation_fraction=0.5), split).videos]
         for split in sources.SPLITS}
  assert ids == {'train': ['0.mp4', '3.mp4'], 'test': ['1.mp4'],
                 'validation': ['2.mp4']}


def test_unlabelled_folder_is_all_test_unless_divided(tmp_path):
  root = _labelled(tmp_path, [None] * 20)
  assert len(sources.load(_config('folder', root), 'test').videos) == 20
  _fails(_config('folder', root), 'train', 'no entries for split', '"split"')
  config = _config('folder', root, test_fraction=0.25, validation_fraction=0.2)
  ids = [{v.id for v in sources.load(config, split).videos}
         for split in sources.SPLITS]
  assert [len(i) for i in ids] == [12, 3, 5]
  assert len(set.union(*ids)) == 20


def _benchmark(root, name, train, test):
  benchmark = sources.BENCHMARKS[name]
  _write(root / benchmark.train, train)
  _write(root / benchmark.test, test)


# What the authors' dataloader/*.py make of these entries, by hand.
CASES = {
    'didemo': ('1@N0_a.b.mov', [' one', 'two '], '1@N0_a', 'one two'),
    'activitynet': ('v_x-1.mp4', ['One.', ' Two. '], 'v_x-1', 'One. Two.'),
    'lsmdc': ('MOVIE_1.5/MOVIE_1.5_00.03-00.06.avi', ' SOMEONE waits. ',
              'MOVIE_1.5_00.03-00.06', 'SOMEONE waits.'),
    'msrvtt': ('video7.mp4', 'a man sings ', 'video7', 'a man sings'),
}


@pytest.mark.parametrize('name', CASES)
def test_benchmark_entries_read_as_the_authors_do(tmp_path, name):
  video, caption, video_id, text = CASES[name]
  _benchmark(tmp_path, name, [{'video': 'x/y.mp4', 'caption': caption}],
             [{'video': video, 'caption': caption, 'start': 3}])
  split = sources.load(_config(name, tmp_path), 'test')
  assert [v.id for v in split.videos] == [video_id]
  assert _texts(split) == [text]
  assert split.videos[0].video == str(tmp_path / 'videos' / video)


def test_msrvtt_joins_the_captions_of_a_video(tmp_path):
  _benchmark(tmp_path, 'msrvtt', [
      {'video': f'video{i}.mp4', 'caption': f'{i} {k}'}
      for k in range(2) for i in (3, 1)], [])
  split = sources.load(_config('msrvtt', tmp_path), 'train')
  assert [v.id for v in split.videos] == ['video3', 'video1']
  assert split.text_video.tolist() == [0, 1, 0, 1]
  relevant = split.video_to_text().relevant
  assert [r.tolist() for r in relevant] == [[0, 2], [1, 3]]


def test_validation_is_held_out_of_train_by_video(tmp_path):
  train = [{'video': f'video{i % 40}.mp4', 'caption': f'{i}'}
           for i in range(80)]
  _benchmark(tmp_path, 'msrvtt', train, train[:1])
  whole = sources.load(_config('msrvtt', tmp_path), 'train')
  config = _config('msrvtt', tmp_path, validation_fraction=0.1)
  kept, held = (sources.load(config, s) for s in ('train', 'validation'))
  ids = [{v.id for v in split.videos} for split in (whole, kept, held)]
  assert len(held.videos) == 4 and len(held.texts) == 8
  assert ids[1] | ids[2] == ids[0] and not ids[1] & ids[2]
  # The choice depends on the ids, not on the order of the file.
  _benchmark(tmp_path, 'msrvtt', train[::-1], train[:1])
  again = sources.load(config, 'validation')
  assert {v.id for v in again.videos} == ids[2]
  _fails(_config('msrvtt', tmp_path), 'validation', 'data.validation_fraction')


@pytest.mark.parametrize('name', [*sources.BENCHMARKS, 'folder'])
def test_missing_directory_says_what_is_expected(tmp_path, name):
  expected = ['captions.json']
  if name != 'folder':
    benchmark = sources.BENCHMARKS[name]
    expected = [benchmark.train, benchmark.test, benchmark.videos_from,
                'videos/', 'features/', 'mlvlab/BLiM']
  missing = tmp_path / 'missing'
  _fails(_config(name, missing), 'test', 'not a directory', str(missing),
         *expected)
  _fails(_config(name), 'test', 'data.root is not set', *expected)
  _fails(_config(name, tmp_path), 'test', str(tmp_path), *expected)


def test_empty_folder_and_missing_media(tmp_path):
  _fails(_config('folder', tmp_path), 'test', 'is empty', 'captions.json')
  _touch(tmp_path / 'a.mp4')
  _fails(_config('folder', tmp_path), 'test', 'has no captions.json')
  _write(tmp_path / 'captions.json', [{'video': 'b.mp4', 'caption': 'b'}])
  _fails(_config('folder', tmp_path), 'test', 'none of the 1 files')


@pytest.mark.parametrize('content, parts', [
    ('[{"video": "a.mp4", "text": "x"}]',
     ('entry 1', 'got fields video, text', "wanted 'caption'")),
    ('[{"video": "a.mp4", "caption": "x"}, {"vdeo": "a.mp4"}]',
     ('entry 2', 'got fields vdeo', "one of 'video' and 'image'")),
    ('[{"video": "a.mp4", "image": "a.png", "caption": "x"}]',
     ('entry 1', "one of 'video' and 'image'")),
    ('[{"video": 7, "caption": "x"}]',
     ('entry 1', "got 'video' a number, wanted a string")),
    ('[{"video": "a.mp4", "caption": null}]',
     ('entry 1', "got 'caption' null, wanted a string or a list")),
    ('[{"video": "a.mp4", "caption": ["x", 1]}]',
     ('entry 1', 'got the caption 1, wanted a text')),
    ('[{"video": "a.mp4", "caption": []}]', ('entry 1', "'caption' empty")),
    ('[{"video": "a.mp4", "caption": " "}]', ('entry 1', "'caption' empty")),
    ('[{"video": "a.mp4", "caption": ["x", " "]}]',
     ('entry 1', "got the caption ' '")),
    ('[{"video": "", "caption": "x"}]', ('entry 1', "'video' empty")),
    ('["a.mp4"]', ('entry 1', 'got a string, wanted an object')),
    ('{"a.mp4": "x"}', ('got an object, wanted a list',)),
    ('[]', ('got an empty list',)),
    ('[{"video": ', ('not valid JSON',)),
    ('[{"video": "a.mp4", "caption": "x", "split": "dev"}]',
     ('entry 1', "'split' 'dev'", "'validation'")),
    ('[{"video": "a.mp4", "caption": "x", "split": "train"},'
     ' {"video": "a.mp4", "caption": "x", "split": "test"}]',
     ('entry 2', "'a.mp4' in split 'test'", "wanted 'train'")),
    ('[{"video": "a.mp4", "caption": "x", "split": "train"},'
     ' {"video": "b.mp4", "caption": "x"}]',
     ('entry 2', 'in all entries or in none')),
])
def test_wrong_fields_name_file_entry_and_field(tmp_path, content, parts):
  _touch(tmp_path / 'a.mp4')
  (tmp_path / 'captions.json').write_text(content)
  _fails(_config('folder', tmp_path), 'test', str(tmp_path / 'captions.json'),
         *parts)


@pytest.mark.parametrize('name, entry, parts', [
    ('didemo', {'video': 'a.mp4', 'caption': 'x'},
     ("'caption' a string, wanted a list",)),
    ('msrvtt', {'video': 'a.mp4', 'caption': ['x']},
     ("'caption' a list, wanted a string",)),
    ('lsmdc', {'video': 'a.avi', 'caption': 'x'}, ('movie/clip.ext',)),
    ('activitynet', {'video': 'a.mp4', 'caption': []}, ("'caption' empty",)),
])
def test_wrong_benchmark_fields(tmp_path, name, entry, parts):
  _benchmark(tmp_path, name, [], [entry])
  _fails(_config(name, tmp_path), 'test', 'entry 1', *parts)


def test_two_files_with_one_id(tmp_path):
  _benchmark(tmp_path, 'msrvtt', [], [
      {'video': 'a.mp4', 'caption': 'x'}, {'video': 'a.b.mp4', 'caption': 'x'}])
  _fails(_config('msrvtt', tmp_path), 'test', "the same id 'a'", 'a.b.mp4')


def test_unknown_names(tmp_path):
  _fails(_config('msrvt', tmp_path), 'test', "'msrvt' is unknown", 'msrvtt')
  _fails(_config('msrvtt', tmp_path), 'val', "'val' is unknown", 'validation')


@pytest.fixture
def built(monkeypatch):
  """A stand-in for the renderer that notes what it is asked for."""
  calls = []

  def build(out_dir, **arguments):
    calls.append((out_dir, arguments))
    _touch(out_dir / 'videos' / '0.mp4')
    _write(out_dir / 'captions_test.json',
           [{'video': '0.mp4', 'caption': 'a red square'}])

  module = python_types.ModuleType('jaxret.data.shapes.world')
  module.build = build
  monkeypatch.setitem(sys.modules, 'jaxret.data.shapes.world', module)
  monkeypatch.setattr('jaxret.data.shapes.world', module, raising=False)
  return calls


def test_shapes_are_built_in_the_cache(built, tmp_path, monkeypatch):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path))
  sizes = {'train': 2, 'validation': 1, 'test': 1}
  split = sources.load(_config('shapes', sizes=sizes, seed=3), 'test')
  assert built[0][1] == {'sizes': sizes, 'seed': 3}
  assert built[0][0].parent == tmp_path
  assert split.videos[0].video == str(built[0][0] / 'videos' / '0.mp4')
  sources.load(_config('shapes', sizes=sizes, seed=4), 'test')
  assert built[1][0] != built[0][0]


def test_shapes_are_built_under_the_root(built, tmp_path):
  sources.load(_config('shapes', tmp_path / 'corpus'), 'test')
  assert built == [(tmp_path / 'corpus', {})]
