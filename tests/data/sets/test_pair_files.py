"""UNITE's training files."""
import json

import numpy as np
import pytest

from jaxret.data import types
from jaxret.data.sets import pair_files as pairs
from jaxret.data.types import Item

ENTRIES = [
    {'query': {'text': 'a dog'}, 'candidate': {'image': 'i/1.jpg'}},
    {'query': {'image': {'type': 'image', 'image': 'i/1.jpg'},
               'text': '<|IMAGE|> make it red'},
     'candidate': {'image': ['i/2.jpg'], 'text': '<|IMAGE|> red'},
     'negative': {'image': ['i/3.jpg', 'i/4.jpg']},
     'target_modal': 'text, image'},
    {'query': {'video': ['v.mp4']}, 'candidate': {'text': 'rain'},
     'negative': None, 'target_modal': None}]


def stored(folder, content):
  path = folder / 'train.json'
  path.write_text(json.dumps(content))
  return path


def test_every_form_of_the_published_file(tmp_path):
  read = pairs.PairFile(stored(tmp_path, ENTRIES))
  assert len(read) == 3
  first, second, third = (read[i] for i in range(3))
  assert first.query.text == 'a dog' and first.target_modality == 'image'
  assert first.candidate.image == str(tmp_path / 'i/1.jpg')
  # The prompt names the modalities in the order of the keys.
  assert second.query.order == ('image', 'text')
  assert second.query.image == str(tmp_path / 'i/1.jpg')
  assert second.candidate.image == str(tmp_path / 'i/2.jpg')
  assert second.target_modality == 'text,image'
  assert second.negative.image == (
      str(tmp_path / 'i/3.jpg'), str(tmp_path / 'i/4.jpg'))
  assert third.query.video == str(tmp_path / 'v.mp4')
  assert third.target_modality == 'text' and third.negative is None
  elsewhere = pairs.PairFile(stored(tmp_path, ENTRIES), '/media')
  assert elsewhere[2].query.video == '/media/v.mp4'


@pytest.mark.parametrize('entry, message', [
    ({'query': {'text': 'a'}}, "got fields query, wanted 'candidate'"),
    ({'query': 'a', 'candidate': {'text': 'b'}}, "'query' a string"),
    ({'query': {}, 'candidate': {'text': 'b'}}, "'query' with nothing"),
    ({'query': {'txt': 'a'}, 'candidate': {'text': 'b'}}, "'query' with txt"),
    ({'query': {'text': ' '}, 'candidate': {'text': 'b'}}, "'text' empty"),
    ({'query': {'image': 3}, 'candidate': {'text': 'b'}}, 'image 3'),
    ({'query': {'image': ['']}, 'candidate': {'text': 'b'}}, "image ['']"),
    ({'query': {'text': 'a'}, 'candidate': {'text': 'b'}, 'label': 1},
     "the field 'label'"),
    ({'query': {'text': 'a'}, 'candidate': {'text': 'b'},
      'target_modal': 'text,sound'}, "the modality 'sound'"),
    ({'query': {'text': 'a'}, 'candidate': {'text': 'b'},
      'negative': {'video': {'video': None}}}, "'negative' with video")])
def test_bad_entries_are_named(tmp_path, entry, message):
  path = stored(tmp_path, [ENTRIES[0], entry])
  with pytest.raises(ValueError) as error:
    pairs.PairFile(path)
  assert f'{path}, entry 2: got ' in str(error.value)
  assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('content, message', [
    ([], 'got an empty list'), ({'query': 1}, 'got an object'),
    ([1], 'entry 1: got a number')])
def test_bad_files_are_named(tmp_path, content, message):
  with pytest.raises(ValueError, match=message):
    pairs.PairFile(stored(tmp_path, content))
  with pytest.raises(ValueError, match='is not a file'):
    pairs.PairFile(tmp_path / 'none.json')


def test_saved_pairs_are_read_again(tmp_path):
  made = [
      pairs.Pair(Item('q', text='x', image='/a.png',
                      order=('image', 'text', 'video')),
                 Item('c', video=('/1.mp4', '/2.mp4')), 'video',
                 Item('n', text='no')),
      pairs.Pair(Item('q', text='y'), Item('c', text='z'), 'text')]
  pairs.save(tmp_path / 'made.json', made)
  with pytest.raises(ValueError, match='entry 1: .*/a.png.* not in .*data.'
                     'allow_outside=True'):
    pairs.PairFile(tmp_path / 'made.json')
  read = pairs.PairFile(tmp_path / 'made.json', allow_outside=True)
  assert len(read) == 2
  for old, new in zip(made, [read[0], read[1]]):
    assert new.target_modality == old.target_modality
    for a, b in zip(old[:2] + old[3:], new[:2] + new[3:]):
      assert (a is None) == (b is None)
      assert a is None or (a.text, a.image, a.video) == (
          b.text, b.image, b.video)
  assert read[0].query.order[:2] == ('image', 'text')


def test_pairs_of_a_split_say_what_its_files_lack():
  bad = types.LeftOut('f.json:3', 'no caption')
  split = types.Split('d', 'train', (types.Item('v', video='v.mp4'),),
                      (types.Item('t', text='a'),), np.array([0]),
                      left_out=(bad,))
  found = pairs.of_split(split).values()
  assert [one for own in found for one in own.left_out] == [bad]


def test_several_negatives_scores_and_grades(tmp_path):
  path = stored(tmp_path, [
      {'query': {'text': 'a'}, 'candidate': {'text': 'b'}, 'scores': [3, -1.5],
       'negative': [{'text': 'c'}]},
      {'query': {'text': 'a'}, 'candidate': {'text': 'b'},
       'negative': [{'text': 'c'}, {'image': 'x.png'}],
       'scores': [0.9, 0.1, 0.2]},
      {'query': {'text': 'a'}, 'candidate': {'text': 'b'}, 'grade': 4}])
  read = pairs.PairFile(path)
  one, two, graded = (read[i] for i in range(3))
  assert one.negative.text == 'c' and one.scores == (3.0, -1.5)
  assert [n.text for n in two.negative] == ['c', None]
  assert two.negative[1].image == str(tmp_path / 'x.png')
  assert two.scores == (0.9, 0.1, 0.2) and two.grade is None
  assert graded.grade == 4.0 and graded.negative is graded.scores is None
  pairs.save(tmp_path / 'again.json', [one, two, graded])
  again = pairs.PairFile(tmp_path / 'again.json', allow_outside=True)
  assert [(p.scores, p.grade) for p in again] == [
      (p.scores, p.grade) for p in read]
  assert [n.text for n in again[1].negative] == ['c', None]


@pytest.mark.parametrize('fields, said', [
    ({'negative': []}, 'an empty list as negative'),
    ({'negative': [{'text': 'c'}, 'd']}, "'negative' a string"),
    ({'negative': [{'text': 'c'}, {}]}, "'negative' with nothing"),
    ({'negative': [{'image': '/x.png'}]}, "'/x.png', which is not in"),
    ({'negative': {'text': 'c'}, 'scores': [1.0]}, 'with 1 negatives'),
    ({'negative': {'text': 'c'}, 'scores': [1.0, float('nan')]}, 'the scores'),
    ({'negative': {'text': 'c'}, 'scores': [1.0, True]}, 'the scores'),
    ({'scores': [1.0]}, 'with 0 negatives'),
    ({'grade': 'high'}, "the grade 'high'"),
    ({'grade': 1.0, 'negative': {'text': 'c'}}, 'no negative beside it')])
def test_negatives_scores_and_grades_that_are_none(tmp_path, fields, said):
  path = stored(tmp_path, [
      {'query': {'text': 'a'}, 'candidate': {'text': 'b'}, **fields}])
  with pytest.raises(ValueError, match=said) as caught:
    pairs.PairFile(path)
  assert 'train.json, entry 1' in str(caught.value)
