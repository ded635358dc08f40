"""From tables to splits, through the data set `folder`."""
import json
import random

import ml_collections
import pyarrow
import pytest

from jaxret.data import images, media, sets
from jaxret.data.tabular import rows
from tests import hub_caches, numbered_videos, tables
from tests.captions import texts
from tests.data.containers.test_archives import zipped
from tests.data.containers.test_cells import arrow


def load(root, split='test', columns=None, **fields):
  return sets.load(ml_collections.ConfigDict({
      'name': 'folder', 'root': str(root),
      'columns': rows.NO_COLUMNS | (columns or {}), **fields}), split)


def greys(split):
  return [int(images.read(item.image)[0, 0, 0]) for item in split.videos]


def test_media_in_a_table_are_named_as_their_files(tmp_path):
  path = tables.parquet(tmp_path / 'x.parquet',
                        image=tables.images(['b.png', 'a.png'], start=5),
                        caption=[[' one', 'two '], ['three']])
  for root in (tmp_path, path):
    split = load(root)
    assert [item.id for item in split.videos] == ['b.png', 'a.png']
    assert [item.image for item in split.videos] == [
        f'{path}/0/image', f'{path}/1/image']
    assert [item.id for item in split.texts] == ['b.png#0', 'b.png#1',
                                                 'a.png#0']
    assert texts(split) == ['one', 'two', 'three']
    assert split.text_video.tolist() == [0, 0, 1]
    assert split.files == (str(path),) and greys(split) == [5, 6]


def test_rows_of_one_medium_are_joined(tmp_path):
  """One row for each caption: by id, by name, or by content."""
  for names, given in ((['a.png', 'b.png', 'a.png'], None),
                       ([None] * 3, None), ([None] * 3, 'key'),
                       (['/home/me/a.png', '/home/me/b.png', '../a.png'],
                        None)):
    path = tables.parquet(
        tmp_path / 'x.parquet', caption=['1', '2', '3'], key=[7, 8, 7],
        image=(tables.MEDIUM, [tables.medium(tables.png(grey), name)
                               for grey, name in zip((1, 2, 1), names)]))
    split = load(path, columns={'id': given or '', 'caption': 'caption'})
    assert split.text_video.tolist() == [0, 1, 0]
    assert [item.image for item in split.videos] == [
        f'{path}/0/image', f'{path}/1/image']
    wanted = (['7', '8'] if given else ['a.png', 'b.png'] if names[0] else
              [item.id for item in split.videos])
    assert [item.id for item in split.videos] == wanted


def test_two_media_of_one_name_are_no_medium(tmp_path):
  path = tables.parquet(tmp_path / 'x.parquet', caption=['1', '2', '3'],
                        image=tables.images(['a.png', 'a.png', 'b.png']))
  split = load(path)
  assert texts(split) == ['1', '3']
  (left,) = split.left_out
  assert left.id == 'x.parquet:1' and f'{path}, row 1' in left.reason
  assert "another medium of the id 'a.png'" in left.reason


def test_frames_are_one_video(tmp_path):
  path = tables.parquet(
      tmp_path / 'x.parquet', caption=['1', '2'],
      frames=[[tables.png(i + 10 * row) for i in range(4)]
              for row in range(2)])
  split = load(path)
  assert split.videos[1].video == tuple(
      f'{path}/1.{i}/frames' for i in range(4))
  shown = media.load_frames(split.videos[1], 3, 8)
  assert shown[:, 0, 0, 0].tolist() == [10, 11, 12]


def test_a_folder_of_frames_is_a_video(tmp_path):
  """As MMEB-V2 has them: frames/<id>/<number>.jpg."""
  for name, greys_ in (('a', (3, 4, 5)), ('b', (6,))):
    (tmp_path / 'frames' / name).mkdir(parents=True)
    for number, grey in zip((2, 10, 11), greys_):
      (tmp_path / 'frames' / name / f'{number}.png').write_bytes(
          tables.png(grey))
  (tmp_path / 'frames' / 'a' / 'notes.txt').write_text('x')
  (tmp_path / 'frames' / 'empty').mkdir()
  (tmp_path / 'test.jsonl').write_text('\n'.join(json.dumps(
      {'frames': f'frames/{name}', 'caption': name})
                                       for name in ('a', 'b', 'empty')))
  split = load(tmp_path, columns={'video': 'frames'})
  assert [item.id for item in split.videos] == ['frames/a', 'frames/b']
  assert split.videos[0].video == tuple(
      f'{tmp_path}/frames/a/{number}.png' for number in (2, 10, 11))
  shown = media.load_frames(split.videos[0], 4, 8)
  assert shown[:, 0, 0, 0].tolist() == [3, 3, 3, 4]
  (left,) = split.left_out
  assert 'row 2' in left.reason and 'empty without images' in left.reason


@pytest.mark.parametrize('wrong, said', [
    ({'caption': ['', 'y']}, "the caption '', wanted a text"),
    ({'caption': [None, 'y']}, 'the caption None'),
    ({'image': (tables.MEDIUM, [None, tables.medium(tables.png(1))])},
     'an empty cell'),
    ({'image': (tables.MEDIUM, [tables.medium(None, '/etc/passwd'),
                                tables.medium(tables.png(1))])}, 'not in'),
    ({'image': (tables.MEDIUM, [tables.medium(None, 'http://x/a.png'),
                                tables.medium(tables.png(1))])},
     'URLs are not fetched')])
def test_a_row_that_cannot_be_used_is_left_out(tmp_path, wrong, said):
  data = {'image': tables.images(['a.png', 'b.png']), 'caption': ['x', 'y']}
  path = tables.parquet(tmp_path / 'x.parquet', **data | wrong)
  split = load(path)
  assert texts(split) == ['y']
  (left,) = split.left_out
  assert left.id == 'x.parquet:0' and said in left.reason
  column = next(iter(wrong))
  assert f'{path}, row 0, column {column!r}' in left.reason
  # Of which there is nothing else, that is the error.
  one = {name: (given[0], given[1][:1]) if isinstance(given, tuple)
         else given[:1] for name, given in (data | wrong).items()}
  tables.parquet(path, **one)
  if one['caption'] != [None]:
    with pytest.raises(ValueError, match=said):
      load(path)


def friedrichor(root):
  """As friedrichor/MSR-VTT lies on the hub."""
  root.mkdir(exist_ok=True)
  names = [f'video{i}' for i in range(7)]
  def row(i, captions):
    return {'video_id': names[i], 'video': f'{names[i]}.mp4',
            'caption': captions, 'source': 'MSR-VTT', 'category': 3,
            'url': 'https://www.youtube.com/watch?v=x', 'start time': 1.0}
  for name, content in (
      ('msrvtt_train_9k.json', [row(i, ['a', 'b']) for i in range(5)]),
      ('msrvtt_train_7k.json', [row(i, ['a', 'b']) for i in range(4)]),
      ('msrvtt_test_1k.json', [row(i, f'c {i}') for i in (5, 6)])):
    (root / name).write_text(json.dumps(content))
  (root / 'README.md').write_text('---\nconfigs:\n' + ''.join(
      f'- config_name: {subset}\n  data_files:\n  - split: {split}\n'
      f'    path: msrvtt_{subset}.json\n' for subset, split in (
          ('train_9k', 'train'), ('train_7k', 'train'),
          ('test_1k', 'test'))) + '---\n# MSR-VTT\n')
  zipped(root / 'MSRVTT_Videos.zip', {
      f'video/{name}.mp4': numbered_videos.video(3) for name in names})
  return root


def test_captions_in_json_and_videos_in_a_zip(tmp_path):
  root = friedrichor(tmp_path / 'hub')
  split = load(root)
  assert [item.video for item in split.videos] == [
      f'{root}/MSRVTT_Videos.zip/video/video{i}.mp4' for i in (5, 6)]
  assert texts(split) == ['c 5', 'c 6'] and split.left_out == ()
  assert numbered_videos.numbers(split.videos[0].video) == [0, 1, 2]
  with pytest.raises(ValueError, match="'train' in the subsets 'train_9k', "
                     "'train_7k'; choose by data.subsets"):
    load(root, 'train')
  chosen = ('train_7k', 'test_1k')
  assert len(load(root, 'train', subsets=chosen).videos) == 4
  assert len(load(root, 'test', subsets=chosen).videos) == 2
  with pytest.raises(ValueError, match=r"names 'train_5k'; .* has 'train_9k'"):
    load(root, subsets=('train_5k',))


def test_what_is_known_of_a_repository_counts_where_nothing_is_said(
    tmp_path, monkeypatch):
  hub_caches.use(monkeypatch, tmp_path / 'hub')
  made = friedrichor(tmp_path / 'own')
  root = hub_caches.snapshot(tmp_path / 'hub', 'friedrichor/MSR-VTT', {
      path.name: path.read_bytes() for path in made.iterdir()})
  for where in (root, 'hf://friedrichor/MSR-VTT'):
    assert len(load(where, 'train').videos) == 5
    assert len(load(where, 'train', subsets=('train_7k',)).videos) == 4
    assert len(load(where).videos) == 2


def test_one_file_of_a_repository(tmp_path, monkeypatch):
  hub_caches.use(monkeypatch, tmp_path / 'hub')
  path = tables.parquet(tmp_path / 'x.parquet', caption=['one'],
                        image=tables.images(['a.png']))
  hub_caches.snapshot(tmp_path / 'hub', 'me/pets', {
      'data/test-0.parquet': path.read_bytes(), 'other.txt': b'x'})
  split = load('hf://me/pets/data/test-0.parquet')
  assert texts(split) == ['one'] and greys(split) == [0]


def test_splits_are_chosen_by_their_own_names(tmp_path):
  for name in ('train', 'val1', 'val2'):
    tables.parquet(tmp_path / name / 'x.parquet', caption=[name],
                   image=tables.images([f'{name}.png']))
  readme = '---\nconfigs:\n- config_name: default\n  data_files:\n' + ''.join(
      f'  - split: {name}\n    path: {name}/*\n'
      for name in ('train', 'val1', 'val2')) + '---\n'
  (tmp_path / 'README.md').write_text(readme)
  assert texts(load(tmp_path, splits={'test': 'val1'})) == ['val1']
  assert texts(load(tmp_path, 'validation', splits={
      'validation': 'val2', 'test': 'val1'})) == ['val2']
  with pytest.raises(ValueError, match="the splits 'val1', 'val2'; choose by "
                     'data.splits.validation'):
    load(tmp_path, 'validation')
  with pytest.raises(ValueError, match="names 'val3'; .* has 'train', 'val1'"):
    load(tmp_path, splits={'test': 'val3'})


def test_a_column_says_the_split(tmp_path):
  path = tables.parquet(
      tmp_path / 'data' / 'test-00000.parquet',
      image=tables.images([f'{i}.png' for i in range(4)]),
      caption=list('abcd'), split=['train', 'val', 'test', 'restval'])
  del path
  found = {name: texts(load(tmp_path, name)) for name in sets.SPLITS}
  assert found == {'train': ['a', 'd'], 'validation': ['b'], 'test': ['c']}


def test_what_names_no_split_is_divided_as_a_folder_is(tmp_path):
  names = [f'{i}.png' for i in range(8)]
  path = tables.parquet(tmp_path / 'x.parquet', image=tables.images(names),
                        caption=[f'of {name}' for name in names])
  (tmp_path / 'own').mkdir()
  for i, name in enumerate(names):
    (tmp_path / 'own' / name).write_bytes(tables.png(i))
  (tmp_path / 'own' / 'captions.json').write_text(json.dumps([
      {'image': name, 'caption': f'of {name}'} for name in names]))
  for name in ('train', 'test'):
    assert texts(load(path, name, test_fraction=0.25)) == texts(
        load(tmp_path / 'own', name, test_fraction=0.25))
  with pytest.raises(ValueError, match="no entries for split 'train'"):
    load(path, 'train')


def test_test_is_held_out_of_train_only_where_it_is_asked(tmp_path):
  names = [f'{i}.png' for i in range(8)]
  tables.parquet(tmp_path / 'train.parquet', image=tables.images(names),
                 caption=names)
  assert len(load(tmp_path, 'train').videos) == 8
  with pytest.raises(ValueError, match="no entries for split 'test'"):
    load(tmp_path)
  parts = [load(tmp_path, name, test_fraction=0.25).videos
           for name in ('train', 'test')]
  assert list(map(len, parts)) == [6, 2]
  assert not {item.id for item in parts[0]} & {item.id for item in parts[1]}


def test_a_folder_without_either_says_what_is_wanted(tmp_path):
  (tmp_path / 'x.tar.gz').write_bytes(b'x')
  with pytest.raises(ValueError, match='has no captions.json; wanted captions'
                     '.json, or a table .*; of x.tar.gz only media') as error:
    load(tmp_path)
  assert '\n' not in str(error.value)


def test_a_webp_or_bytes_without_a_name_are_called_by_their_content(tmp_path):
  path = tables.parquet(tmp_path / 'x.parquet', caption=['a', 'b'],
                        image=[tables.png(1), tables.png(2)])
  first = load(path, columns={'image': 'image'})
  again = tables.parquet(tmp_path / 'y.parquet', caption=['b', 'a'],
                         image=[tables.png(2), tables.png(1)])
  other = load(again, columns={'image': 'image'})
  assert [item.id for item in first.videos] == [
      item.id for item in other.videos][::-1]


def test_tables_that_datasets_writes(tmp_path):
  datasets = pytest.importorskip('datasets')
  made = datasets.Dataset.from_dict(
      {'image': [tables.medium(tables.png(i), f'{i}.png') for i in range(3)],
       'caption': list('abc')}, features=datasets.Features({
           'image': datasets.Image(), 'caption': datasets.Value('string')}))
  made.to_parquet(tmp_path / 'p' / 'data' / 'test-00000-of-00001.parquet')
  made.save_to_disk(tmp_path / 's')
  datasets.DatasetDict({'train': made, 'test': made}).save_to_disk(
      tmp_path / 'd')
  for root in 'psd':
    split = load(tmp_path / root)
    assert [item.id for item in split.videos] == ['0.png', '1.png', '2.png']
    assert greys(split) == [0, 1, 2] and texts(split) == ['a', 'b', 'c']


@pytest.mark.parametrize('form', ['parquet', 'file', 'stream'])
def test_flipped_bits_are_read_or_said_in_one_line(tmp_path, form):
  path = tables.parquet(tmp_path / 'x.parquet', 2, caption=list('abcde'),
                        image=tables.images([f'{i}.png' for i in range(5)]))
  if form != 'parquet':
    path = arrow(tmp_path / 'x.arrow', pyarrow.parquet.read_table(path), form)
  whole, rng = path.read_bytes(), random.Random(0)
  said = 0
  for _ in range(60):
    data = bytearray(whole)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    try:
      for item in load(path).videos:
        images.read(item.image)
    except ValueError as error:  # MediaError is one
      assert '\n' not in str(error) and path.name in str(error)
      said += 1
  assert 0 < said < 60
