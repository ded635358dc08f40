"""MMEB's files: lists, marks, and what is wrong in them."""
import pytest

from jaxret.data import sets
from jaxret.data.sets import mmeb
from tests.benchmark_files import parquet, refused, relevant, texts, write


def mmeb_row(text, image, candidates):
  return {'qry_text': text, 'qry_img_path': image,
          'tgt_text': [t for t, _ in candidates],
          'tgt_img_path': [p for _, p in candidates]}


def test_mmeb_lists_and_marks(tmp_path):
  parquet(tmp_path / 'CIRR' / 'test-00000-of-00001.parquet', [
      mmeb_row('<|image_1|>\nMake it red', 'CIRR/q.jpg', [
          ('<|image_1|>\nAn image', f'CIRR/{n}.jpg') for n in (3, 1, 3, 2)]),
      mmeb_row('<|image_1|>\nTwo dogs', 'CIRR/q.jpg', [
          ('<|image_1|>\nAn image', f'CIRR/{n}.jpg') for n in (2, 4)])])
  parquet(tmp_path / 'VOC2007' / 'test-00000-of-00001.parquet', [
      mmeb_row('<|image_1|> Which object?', 'VOC2007/1.jpg',
               [('dog', ''), ('cat', '')])])
  write(tmp_path / 'eval_images' / 'CIRR' / '1.jpg', b'x')
  first, second = sets.tasks('mmeb', tmp_path, ('CIRR', 'VOC2007'))
  assert (first.name, second.name) == ('VOC2007', 'CIRR')
  assert texts(first.candidates) == ['dog', 'cat']
  assert first.candidates[0].image is None
  assert first.queries[0].text == '<|IMAGE|> Which object?'
  # Candidate 0 is the answer; an equal pair is the same candidate.
  assert [i.tolist() for i in second.lists] == [[0, 1, 2], [2, 3]]
  assert relevant(second) == [[0], [2]]
  assert [c.image.rpartition('/')[2] for c in second.candidates] == [
      '3.jpg', '1.jpg', '2.jpg', '4.jpg']
  assert second.candidates[1].image.endswith('eval_images/CIRR/1.jpg')


@pytest.mark.parametrize('row, message', [
    (mmeb_row('<|image_1|> x', '', [('a', '')]), '1 marks <|image_1|> for 0'),
    (mmeb_row('', '', [('a', '')]), 'neither text nor image'),
    (mmeb_row('x', '', [('', '')]), 'neither text nor image'),
    (dict(mmeb_row('x', '', [('a', '')]), tgt_text=['a', 'b']),
     '2 texts and 1 paths')])
def test_mmeb_bad_rows_are_named(tmp_path, row, message):
  path = tmp_path / 'GQA' / 'test-0.parquet'
  parquet(path, [mmeb_row('fine', '', [('a', '')]), row])
  refused('mmeb', tmp_path, f'{path}, entry 2', message, names=('GQA',))


def test_mmeb_has_36_data_sets_in_four_groups(tmp_path):
  assert len(set(mmeb.DATASETS)) == 36
  assert [len(names) for names in mmeb.GROUPS.values()] == [10, 10, 12, 4]
  refused('mmeb', tmp_path, 'no ImageNet-1K', 'TIGER-Lab/MMEB-eval')
  refused('mmeb', tmp_path, "no task 'ImageNet'", names=('ImageNet',))
  (tmp_path / 'GQA').mkdir()
  refused('mmeb', tmp_path, 'no test-*.parquet', names=('GQA',))
  write(tmp_path / 'GQA' / 'test-0.parquet', b'no parquet')
  refused('mmeb', tmp_path, 'is not a parquet file', names=('GQA',))
  parquet(tmp_path / 'GQA' / 'test-0.parquet', [{'qry': 'a'}])
  refused('mmeb', tmp_path, 'the columns qry', 'tgt_img_path', names=('GQA',))
