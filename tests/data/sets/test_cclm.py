"""CCLM's JSON files."""
import json

import pytest

from jaxret.data.sets import cclm

TRAIN = [{'caption': 'A dog!', 'image': 'a/2.jpg', 'image_id': '2'},
         {'caption': 'A cat.', 'image': 'a/1.jpg', 'image_id': '1'},
         {'caption': 'Dogs', 'image': 'a/2.jpg', 'image_id': '2'}]
GERMAN = [{**entry, 'caption': text} for entry, text in zip(
    TRAIN, ('Ein Hund!', 'Eine Katze', 'Hunde'))]
TEST = [{'image': 'a/7.jpg', 'caption': ['Un chien', 'Le chien']},
        {'image': 'a/8.jpg', 'caption': ['Un chat']}]


@pytest.fixture
def write(tmp_path):
  def write(name, entries):
    path = tmp_path / name
    path.write_text(json.dumps(entries))
    return path
  return write


def test_training_entries_are_paired(write):
  split = cclm.read(write('train.en.json', TRAIN), 'train', 'media',
                    write('train_enc2de.json', GERMAN),
                    {'1': 'A cat sits.', '2': 'A dog runs.'})
  assert [(a.text, b.text) for a, b in zip(
      split.texts, split.translations)] == [
      ('a dog', 'ein hund'), ('a cat', 'eine katze'), ('dogs', 'hunde')]
  assert split.text_video.tolist() == [0, 1, 0]
  assert [video.image for video in split.videos] == [
      'media/a/2.jpg', 'media/a/1.jpg']
  assert split.descriptions == ('A dog runs.', 'A cat sits.')


def test_evaluation_entries_have_lists(write, tmp_path):
  for name in '78':
    (tmp_path / f'{name}.txt').write_text(f'Image {name}.')
  split = cclm.read(write('test.fr.json', TEST), 'test', 'media',
                    descriptions=tmp_path)
  assert [text.text for text in split.texts] == [
      'un chien', 'le chien', 'un chat']
  assert split.text_video.tolist() == [0, 0, 1]
  assert split.descriptions == ('Image 7.', 'Image 8.')
  assert [video.id for video in split.videos] == ['7', '8']


@pytest.mark.parametrize('theirs, message', [
    (GERMAN[:2], 'train.en.json, entry 3: this caption has no pair'),
    ([GERMAN[1], *GERMAN[1:]],
     r"enc2de.json, entry 1: got image_id '1', wanted '2' as in"),
    ([{**GERMAN[0], 'caption': ['x']}], "entry 1: got no single 'caption'"),
    ([{'caption': 'x'}], "entry 1: got no field 'image'"),
    ([{**GERMAN[0], 'caption': '...'}, *GERMAN[1:]],
     'enc2de.json, entry 1: the caption is nothing but'),
    ({}, 'wanted a list of'),
])
def test_wrong_entries_are_named_by_file_and_entry(write, theirs, message):
  english, german = write('train.en.json', TRAIN), write(
      'x_enc2de.json', theirs)
  with pytest.raises(ValueError, match=message) as caught:
    cclm.read(english, 'train', 'media', german)
  assert '\n' not in str(caught.value)


def test_texts_that_people_wrote_are_no_training_texts(write):
  english, german = write('train.en.json', TRAIN), write(
      'train.de.json', GERMAN)
  with pytest.raises(ValueError, match='not named as a translation'):
    cclm.read(english, 'train', 'media', german)
  with pytest.raises(ValueError, match='jaxret does not translate'):
    cclm.read(english, 'train', 'media')


def test_a_missing_description_is_named_by_file_and_entry(write):
  with pytest.raises(ValueError, match="entry 2: '8' has no description"):
    cclm.read(write('test.fr.json', TEST), 'test', 'media',
              descriptions={'7': 'A dog.'})
