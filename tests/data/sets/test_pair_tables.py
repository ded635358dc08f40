"""Training pairs in tables, with media on both sides."""
import json

import ml_collections
import pyarrow
import pytest

from jaxret.data import images, sets
from tests import tables

PICTURES = tables.MEDIUM, [tables.medium(tables.png(i)) for i in range(3)]
OTHERS = tables.MEDIUM, [
    tables.medium(tables.png(10 + i)) for i in range(2)] + [None]


def pairs_of(root, *files):
  made = sets.get('pairs', 'training_pairs').training_pairs(
      ml_collections.ConfigDict({'root': str(root), 'pairs': files}))
  assert list(made) == list(files)
  return made[files[0]]


def grey(path):
  return int(images.read(path)[0, 0, 0])


def test_images_and_texts_on_both_sides(tmp_path):
  """Image to image, image and text to image; what is empty is not there."""
  for name in ('train-0', 'train-1'):
    tables.parquet(
        tmp_path / 'data' / f'{name}.parquet', query_image=PICTURES,
        query_text=['make it red', None, ''], candidate_image=OTHERS,
        candidate_text=[None, 'red', 'blue'], negative_image=PICTURES,
        target_modal=[None, 'text, image', None], seen=[1, 2, 3])
  found = pairs_of(tmp_path, 'data/train-*.parquet')
  first, second, third = found[:3]
  assert len(found) == 6 and found.left_out == []
  assert grey(first.query.image) == 0 and first.query.text == 'make it red'
  assert first.query.order == ('image', 'text')
  assert grey(first.candidate.image) == 10 and first.candidate.text is None
  assert grey(first.negative.image) == 0
  assert (first.target_modality, second.target_modality) == (
      'image', 'text,image')
  assert second.query.text is None and second.query.order == ('image',)
  assert third.candidate.image is None and third.target_modality == 'text'
  assert found[0].query.id == 'train-0.parquet:0:query'


def test_names_of_videos_on_both_sides(tmp_path):
  (tmp_path / 'videos').mkdir()
  for name in ('a.mp4', 'b.mp4'):
    (tmp_path / 'videos' / name).write_bytes(b'x')
  (tmp_path / 't.jsonl').write_text('\n'.join(map(json.dumps, [
      {'query_video': 'a.mp4', 'candidate_video': 'b.mp4'},
      {'query_video': '../c.mp4', 'candidate_video': 'b.mp4'},
      {'query_video': 'a.mp4', 'candidate_video': ''}])))
  found = pairs_of(tmp_path, 't.jsonl')
  assert [(pair.query.video, pair.candidate.video) for pair in found] == [
      tuple(str(tmp_path / 'videos' / name) for name in ('a.mp4', 'b.mp4'))]
  assert [one.id for one in found.left_out] == ['t.jsonl:1', 't.jsonl:2']
  assert "row 1, column 'query_video'" in found.left_out[0].reason
  assert 'an empty candidate' in found.left_out[1].reason


@pytest.mark.parametrize('columns, said', [
    ({'query_text': ['a']}, 'has the columns query_text; wanted query and'),
    ({'query': ['a'], 'candidate': (tables.MEDIUM, [tables.medium(b'x')])},
     "the column 'candidate', of which nothing says what it is"),
    ({'query': ['a'], 'query_text': ['b'], 'candidate': ['c']},
     'two columns of the query'),
    ({'query': ['a'], 'candidate': ['c'], 'target_modal': ['sound']},
     "row 0, column 'target_modal': got 'sound'"),
    ({'query': [' '], 'candidate': ['c']}, "got the text ' '"),
    ({'query': ['a'], 'candidate': (pyarrow.string(), [None])},
     'got an empty candidate')])
def test_what_says_no_pair_is_refused_in_one_line(tmp_path, columns, said):
  tables.parquet(tmp_path / 't.parquet', **columns)
  with pytest.raises(ValueError, match=said) as error:
    pairs_of(tmp_path, 't.parquet')
  assert '\n' not in str(error.value)


def test_texts_alone_and_no_such_file(tmp_path):
  tables.parquet(tmp_path / 't.parquet', query=['a'], candidate=['b'])
  (pair,) = pairs_of(tmp_path, 't.parquet')
  assert (pair.query.text, pair.candidate.text) == ('a', 'b')
  with pytest.raises(ValueError, match="names 'x-.*'; .* has no such file"):
    pairs_of(tmp_path, 'x-*.parquet')
