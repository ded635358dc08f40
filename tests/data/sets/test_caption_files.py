"""The benchmarks of BLiM in its authors' layout."""
import pytest

from jaxret.data import sets
from tests.captions import annotate, fails, section, texts, touch, write

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
  annotate(tmp_path, name, [{'video': 'x/y.mp4', 'caption': caption}],
             [{'video': video, 'caption': caption, 'start': 3}])
  split = sets.load(section(name, tmp_path), 'test')
  assert [v.id for v in split.videos] == [video_id]
  assert texts(split) == [text]
  assert split.videos[0].video == str(tmp_path / 'videos' / video)


def test_msrvtt_joins_the_captions_of_a_video(tmp_path):
  annotate(tmp_path, 'msrvtt', [
      {'video': f'video{i}.mp4', 'caption': f'{i} {k}'}
      for k in range(2) for i in (3, 1)], [])
  split = sets.load(section('msrvtt', tmp_path), 'train')
  assert [v.id for v in split.videos] == ['video3', 'video1']
  assert split.text_video.tolist() == [0, 1, 0, 1]
  relevant = split.video_to_text().relevant
  assert [r.tolist() for r in relevant] == [[0, 2], [1, 3]]


@pytest.mark.parametrize('name', [*CASES, 'folder'])
def test_missing_directory_says_what_is_expected(tmp_path, name):
  expected = ['captions.json']
  if name != 'folder':
    annotations = sets.get(name).ANNOTATIONS
    expected = [annotations.train, annotations.test, annotations.videos_from,
                'videos/', 'features/', 'mlvlab/BLiM']
  missing = tmp_path / 'missing'
  fails(section(name, missing), 'test', 'not a directory', str(missing),
         *expected)
  fails(section(name), 'test', 'data.root is not set', *expected)
  fails(section(name, tmp_path), 'test', str(tmp_path), *expected)


@pytest.mark.parametrize('name, entry, parts', [
    ('didemo', {'video': 'a.mp4', 'caption': 'x'},
     ("'caption' a string, wanted a list",)),
    ('msrvtt', {'video': 'a.mp4', 'caption': ['x']},
     ("'caption' a list, wanted a string",)),
    ('lsmdc', {'video': 'a.avi', 'caption': 'x'}, ('movie/clip.ext',)),
    ('activitynet', {'video': 'a.mp4', 'caption': []}, ("'caption' empty",)),
])
def test_wrong_benchmark_fields(tmp_path, name, entry, parts):
  annotate(tmp_path, name, [], [entry])
  fails(section(name, tmp_path), 'test', 'entry 1', *parts)


@pytest.mark.parametrize('name', CASES)
def test_entries_of_a_benchmark_that_cannot_be_used_are_left_out(
    tmp_path, name):
  video, caption, video_id, text = CASES[name]
  empty = [' '] if isinstance(caption, list) else ' '
  entries = [{'video': video, 'caption': caption},
             {'video': f'x{video}', 'caption': empty}, {'caption': caption}]
  annotate(tmp_path, name, entries, entries[:1])
  split = sets.load(section(name, tmp_path, validation_fraction=0.5), 'train')
  assert [v.id for v in split.videos] == [video_id]
  assert [one.id.rpartition(':')[2] for one in split.left_out] == ['2', '3']
  assert ', entry 2: got the caption' in split.left_out[0].reason or (
      "entry 2: got 'caption' empty" in split.left_out[0].reason)
  assert not sets.load(section(name, tmp_path), 'test').left_out


def test_an_entry_of_a_folder_of_ones_own_is_refused(tmp_path):
  """Who wrote the file can mend it."""
  touch(tmp_path / 'a.mp4', tmp_path / 'b.mp4')
  write(tmp_path / 'captions.json', [{'video': 'a.mp4', 'caption': 'a'},
                                     {'video': 'b.mp4', 'caption': ''}])
  fails(section('folder', tmp_path), 'test', 'captions.json, entry 2')
  write(tmp_path / 'captions.json', [{'video': 'a.mp4', 'caption': 'a \ud83d'}])
  fails(section('folder', tmp_path), 'test', 'captions.json, entry 1',
        'lone surrogate')
  (tmp_path / 'captions.json').write_bytes(
      b'\xef\xbb\xbf[{"video": "a.mp4", "caption": "' +
      'a\u2028b'.encode() + b'"}]')
  assert texts(sets.load(section('folder', tmp_path), 'test')) == ['a\u2028b']


@pytest.mark.parametrize('name', CASES)
def test_tables_stand_in_for_the_authors_files(tmp_path, name):
  """As the hub has them; sentences are joined where the authors join them."""
  for split in ('train', 'test'):
    write(tmp_path / f'their_{split}.json', [
        {'video': f'{split}.mp4', 'caption': ['One.', 'Two.']}])
  touch(tmp_path / 'videos' / 'test.mp4')
  split = sets.load(section(name, tmp_path), 'test')
  assert texts(split) == (['One. Two.'] if name in ('didemo', 'activitynet')
                          else ['One.', 'Two.'])
  assert split.videos[0].video == str(tmp_path / 'videos' / 'test.mp4')
  assert [item.id for item in sets.load(
      section(name, tmp_path), 'train').videos] == ['train.mp4']
  fails(section(name, tmp_path), 'validation', 'validation_fraction')
