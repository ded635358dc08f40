"""CIRCO's files, and the one that its server takes."""
import json

import pytest

from jaxret.data.sets import circo
from tests import tiny_mbeir


def test_circo(tmp_path):
  tiny_mbeir.text(tmp_path / circo.POOL, json.dumps({'images': [
      {'id': i, 'file_name': f'{i:012d}.jpg'} for i in (7, 8, 9)]}))
  rows = [{'id': 0, 'reference_img_id': 7, 'relative_caption': 'two dogs',
           'target_img_id': 9, 'gt_img_ids': [9, 8]}]
  path = tmp_path / 'annotations/val.json'
  tiny_mbeir.text(path, json.dumps(rows))
  found = circo.read(tmp_path, 'val', 'Change it.')
  task, = found.tasks
  assert task.relevant == ({'9': 1, '8': 1},) and task.instructions == (
      'Change it.',)
  assert task.queries[0].image.endswith('unlabeled2017/000000000007.jpg')
  path.write_text(json.dumps([{**rows[0], 'gt_img_ids': [5]}]))
  with pytest.raises(ValueError, match='val.json, entry 1: got the image 5'):
    circo.read(tmp_path, 'val', '')
  path.write_text(json.dumps([
      {**rows[0], 'gt_img_ids': [*rows[0]['gt_img_ids'], 5]},
      {**rows[0], 'id': 12, 'reference_img_id': 6},
      {**rows[0], 'id': 13, 'relative_caption': 'an <image>'},
      {**rows[0], 'id': 14, 'relative_caption': ' '}]))
  found = circo.read(tmp_path, 'val', '')
  assert [query.text for query in found.tasks[0].queries][1:] == ['an < image>']
  assert found.tasks[0].relevant[0]['5'] == 1  # counts, and is not found
  assert [one.id for one in found.left_out] == [
      'val.json:2', 'val.json:4', 'val.json:3', '5']
  for one, reason in zip(found.left_out, (
      'entry 2: got the image 6', "got 'relative_caption' empty", 'placeholder',
      'entry 1: got the image 5')):
    assert reason in one.reason and str(path) in one.reason


def test_a_submission_has_fifty_images(tmp_path):
  with pytest.raises(ValueError, match='query 3 has fewer than 50'):
    circo.write_submission(tmp_path / 'x.json', ['3'], [[str(i) for i in
                                                         range(49)]])


def test_a_submission_holds_the_first_fifty_in_their_order(tmp_path):
  ranked = [[str(10 * q + i) for i in range(60)] for q in range(3)]
  circo.write_submission(tmp_path / 'x.json', ['3', '4', '9'], ranked)
  assert json.loads((tmp_path / 'x.json').read_text()) == {
      name: [int(image) for image in own[:50]]
      for name, own in zip(('3', '4', '9'), ranked)}
  with pytest.raises(ValueError, match='query 4 has fewer than 50'):
    circo.write_submission(tmp_path / 'y.json', ['3', '4'], [
        ranked[0], ranked[1][:49] + ranked[1][:1]])  # one is there twice
  assert not (tmp_path / 'y.json').exists()


@pytest.mark.parametrize('content, message', [
    ([], "got a list, wanted an object with 'images'"),
    ({'images': [{'id': 7}]}, "entry 1: got fields id, wanted 'file_name'"),
    ({'images': [{'id': True, 'file_name': 'a'}]},
     "entry 1: got 'id' a boolean, wanted a number")])
def test_a_pool_of_another_form_is_named(tmp_path, content, message):
  tiny_mbeir.text(tmp_path / circo.POOL, json.dumps(content))
  with pytest.raises(ValueError, match=message) as caught:
    circo.read(tmp_path, 'val', '')
  assert str(caught.value).startswith(str(tmp_path / circo.POOL))
