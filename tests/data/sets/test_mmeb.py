"""MMEB's files: lists, marks, and what is wrong in them."""
import pytest

from jaxret.data import sets
from jaxret.data.sets import mmeb
from tests.benchmark_files import parquet, refused, relevant, texts, write
from tests.data.containers.test_archives import zipped


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


def test_mmeb_images_may_stay_in_their_zip(tmp_path):
  parquet(tmp_path / 'CIRR' / 'test-00000-of-00001.parquet', [
      mmeb_row('<|image_1|>\nMake it red', 'CIRR/q.jpg', [
          ('<|image_1|>\nAn image', f'CIRR/{n}.jpg') for n in (3, 1)])])
  zipped(tmp_path / 'images.zip', {
      f'MMEB-eval/CIRR/{name}.jpg': b'x' for name in ('q', '3')})
  task, = sets.tasks('mmeb', tmp_path, ('CIRR',))
  assert [item.image for item in (*task.queries, *task.candidates)] == [
      f'{tmp_path}/images.zip/MMEB-eval/CIRR/q.jpg',
      f'{tmp_path}/images.zip/MMEB-eval/CIRR/3.jpg',
      f'{tmp_path}/eval_images/CIRR/1.jpg']  # which is nowhere


BAD = [
    (mmeb_row('<|image_1|> x', '', [('a', '')]), '1 marks <|image_1|> for 0'),
    (mmeb_row('', '', [('a', '')]), 'neither text nor image'),
    (mmeb_row('x', '', [('', '')]), 'neither text nor image'),
    (dict(mmeb_row('x', '', [('a', '')]), tgt_text=['a', 'b']),
     '2 texts and 1 paths')]


@pytest.mark.parametrize('row, message', BAD)
def test_mmeb_bad_rows_are_named(tmp_path, row, message):
  path = tmp_path / 'GQA' / 'test-0.parquet'
  parquet(path, [mmeb_row('fine', '', [('a', '')]), row])
  task, = sets.tasks('mmeb', tmp_path, ('GQA',))
  assert texts(task.queries) == ['fine']
  assert any(f'{path}, entry 2' in one.reason and message in one.reason
             for one in task.left_out)
  parquet(path, [row])
  refused('mmeb', tmp_path, f'{path}, entry 1', message, names=('GQA',))


def test_mmeb_bad_candidates_leave_the_lists(tmp_path):
  parquet(tmp_path / 'GQA' / 'test-0.parquet', [
      mmeb_row('one', '', [('a', ''), ('', ''), ('b', '')]),
      mmeb_row('two', '', [('b', ''), ('', ''), ('a', '')])])
  task, = sets.tasks('mmeb', tmp_path, ('GQA',))
  assert [i.tolist() for i in task.lists] == [[0, 1], [1, 0]]
  assert relevant(task) == [[0], [1]] and texts(task.candidates) == ['a', 'b']
  assert [one.reason.rpartition(', ')[2] for one in task.left_out] == [
      'wanted one at least']


# (data set, row of the second edition, its texts in the first): as the second
# is read by the authors' src/data/eval_dataset/image_*.py.
EDITIONS = [
    ('VOC2007', {'qry_inst': '<|image_1|>\nIdentify the object shown.',
                 'qry_text': '', 'qry_img_path': 'a.jpg', 'tgt_inst': '',
                 'tgt_text': ['dog', 'cat'], 'tgt_img_path': ['', '']},
     '<|IMAGE|>\nIdentify the object shown.\n', ['dog', 'cat'], None),
    ('GQA', {'qry_inst': '<|image_1|> Answer the question. ',
             'qry_text': 'Is it red?', 'qry_img_path': 'a.jpg',
             'tgt_inst': '', 'tgt_text': ['yes', 'no'],
             'tgt_img_path': ['', '']},
     '<|IMAGE|>\nAnswer the question. Is it red?\n', ['yes', 'no'], None),
    ('MSCOCO_i2t', {'qry_inst': '<|image_1|>\nFind a caption.', 'qry_text': '',
                    'qry_img_path': 'a.jpg', 'tgt_inst': '',
                    'tgt_text': ['a dog'], 'tgt_img_path': ['']},
     '<|IMAGE|>\nFind a caption.\n', ['a dog'], None),
    ('MSCOCO_t2i', {'qry_inst': 'Find me an image:', 'qry_text': 'a dog',
                    'qry_img_path': '',
                    'tgt_inst': '<|image_1|>\nRepresent the image.',
                    'tgt_text': ['', ''], 'tgt_img_path': ['1.jpg', '2.jpg']},
     'Find me an image: a dog\n', ['<|IMAGE|>\nRepresent the image.\n'] * 2,
     ['1.jpg', '2.jpg']),
    ('VisDial', {'qry_inst': 'Represent the dialogue:', 'qry_text': 'Q: A:',
                 'qry_img_path': '', 'tgt_inst': '<|image_1|>\nAn image.',
                 'tgt_text': [''], 'tgt_img_path': ['1.jpg']},
     'Represent the dialogue: Q: A:\n\n', ['<|IMAGE|>\nAn image.\n'],
     ['1.jpg']),
    ('EDIS', {'qry_inst': 'Find a news image:', 'qry_text': 'rain',
              'qry_img_path': '', 'tgt_inst': '<|image_1|>\nWith caption:',
              'tgt_text': ['wet', ''], 'tgt_img_path': ['1.jpg', '2.jpg']},
     'Find a news image: rain\n', ['<|IMAGE|>\nWith caption: wet\n',
                                   '<|IMAGE|>\nWith caption: \n'],
     ['1.jpg', '2.jpg']),
    ('CIRR', {'qry_inst': '<|image_1|>\nFind a like image:',
              'qry_text': 'but red', 'qry_img_path': 'a.jpg',
              'tgt_inst': '<|image_1|>\nRepresent the image.',
              'tgt_text': [''], 'tgt_img_path': ['1.jpg']},
     '<|IMAGE|>\nFind a like image: but red\n',
     ['<|IMAGE|>\nRepresent the image.'], ['1.jpg']),
    ('RefCOCO-Matching', {
        'qry_inst': '<|image_1|>Select:', 'qry_text': '"left dog"',
        'qry_img_path': 'a.jpg', 'tgt_inst': '<|image_1|> Select:',
        'tgt_text': ['"dog"'], 'tgt_img_path': ['a.jpg']},
     '<|IMAGE|>\nSelect: "left dog"\n', ['<|IMAGE|>  Select: "dog"\n'],
     ['a.jpg'])]


@pytest.mark.parametrize('name, row, query, candidates, paths', EDITIONS)
def test_mmeb_of_the_second_edition(
    tmp_path, name, row, query, candidates, paths):
  parquet(tmp_path / name / 'test-0.parquet', [row])
  write(tmp_path / 'image-tasks' / 'a.jpg', b'x')
  task, = sets.tasks('mmeb', tmp_path, (name,))
  assert texts(task.queries) == [query] and not task.left_out
  assert texts(task.candidates) == candidates
  if row['qry_img_path']:
    assert task.queries[0].image == str(tmp_path / 'image-tasks' / 'a.jpg')
  assert [c.image and c.image.rpartition('/')[2] for c in task.candidates] == (
      paths or [None] * len(candidates))


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
