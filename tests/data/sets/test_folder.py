"""A folder of one's own and its captions.json."""
import numpy as np
import pytest

from jaxret.data import sets
from tests.captions import fails, section, texts, touch, write


@pytest.fixture
def folder(tmp_path):
  """Six entries, four media, looked up in the three places."""
  touch(tmp_path / 'a.mp4', tmp_path / 'videos/b.mp4',
         tmp_path / 'images/c.png')
  write(tmp_path / 'captions.json', [
      {'video': 'b.mp4', 'caption': ' first of b '},
      {'video': 'a.mp4', 'caption': ['one of a', 'two of a']},
      {'image': 'c.png', 'caption': 'of c', 'note': 'other fields are free'},
      {'video': 'b.mp4', 'caption': 'second of b'},
      {'video': 'missing.mp4', 'caption': 'of a missing file'}])
  return tmp_path


def test_folder_keeps_the_order_and_all_captions(folder):
  split = sets.load(section('folder', folder), 'test')
  assert (split.dataset, split.name) == ('folder', 'test')
  assert [v.id for v in split.videos] == [
      'b.mp4', 'a.mp4', 'c.png', 'missing.mp4']
  assert texts(split) == ['first of b', 'one of a', 'two of a', 'of c',
                           'second of b', 'of a missing file']
  assert [t.id for t in split.texts] == [
      'b.mp4#0', 'a.mp4#0', 'a.mp4#1', 'c.png#0', 'b.mp4#1', 'missing.mp4#0']
  assert split.text_video.dtype == np.int32
  assert split.text_video.tolist() == [0, 1, 1, 2, 0, 3]


def test_folder_finds_files_and_keeps_missing_ones(folder):
  videos = sets.load(section('folder', folder), 'test').videos
  assert [v.video or v.image for v in videos] == [
      str(folder / name) for name in
      ('videos/b.mp4', 'a.mp4', 'images/c.png', 'missing.mp4')]
  assert videos[2].video is None and videos[0].image is None


def _labelled(root, labels):
  names = [f'{i}.mp4' for i in range(len(labels))]
  touch(*(root / name for name in names))
  write(root / 'captions.json', [
      {'video': name, 'caption': f'text {name}'} | (
          {'split': label} if label else {})
      for name, label in zip(names, labels)])
  return root


def test_folder_splits_by_label(tmp_path):
  root = _labelled(tmp_path, ['train', 'test', 'validation', 'train'])
  ids = {split: [v.id for v in sets.load(
      section('folder', root, validation_fraction=0.5), split).videos]
         for split in sets.SPLITS}
  assert ids == {'train': ['0.mp4', '3.mp4'], 'test': ['1.mp4'],
                 'validation': ['2.mp4']}


def test_unlabelled_folder_is_all_test_unless_divided(tmp_path):
  root = _labelled(tmp_path, [None] * 20)
  assert len(sets.load(section('folder', root), 'test').videos) == 20
  fails(section('folder', root), 'train', 'no entries for split', '"split"')
  config = section('folder', root, test_fraction=0.25, validation_fraction=0.2)
  ids = [{v.id for v in sets.load(config, split).videos}
         for split in sets.SPLITS]
  assert [len(i) for i in ids] == [12, 3, 5]
  assert len(set.union(*ids)) == 20


def test_empty_folder_and_missing_media(tmp_path):
  fails(section('folder', tmp_path), 'test', 'is empty', 'captions.json')
  touch(tmp_path / 'a.mp4')
  fails(section('folder', tmp_path), 'test', 'has no captions.json')
  write(tmp_path / 'captions.json', [{'video': 'b.mp4', 'caption': 'b'}])
  fails(section('folder', tmp_path), 'test', 'none of the 1 files')


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
  touch(tmp_path / 'a.mp4')
  (tmp_path / 'captions.json').write_text(content)
  fails(section('folder', tmp_path), 'test', str(tmp_path / 'captions.json'),
         *parts)


@pytest.mark.parametrize('name', [
    '../x.mp4', 'videos/../../x.mp4', '/etc/passwd', '..', './../x.mp4'])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
  root = tmp_path / 'folder'
  touch(root / 'a.mp4', tmp_path / 'x.mp4')
  write(root / 'captions.json', [{'video': 'a.mp4', 'caption': 'a'},
                                 {'video': name, 'caption': 'b'}])
  fails(section('folder', root), 'test', 'captions.json, entry 2: got ',
        repr(name), 'data.allow_outside=True')
  split = sets.load(section('folder', root, allow_outside=True), 'test')
  assert [v.id for v in split.videos] == ['a.mp4', name]


def test_names_that_only_look_like_it_stay(tmp_path):
  touch(tmp_path / 'a/..b.mp4', tmp_path / '...mp4')
  write(tmp_path / 'captions.json', [
      {'video': 'a/../a/..b.mp4', 'caption': 'a'},
      {'video': '...mp4', 'caption': 'b'}])
  videos = sets.load(section('folder', tmp_path), 'test').videos
  assert [v.id for v in videos] == ['a/../a/..b.mp4', '...mp4']
