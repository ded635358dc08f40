"""LECCR's text cleaning, keys, and pairing of captions in two languages."""
import pathlib
import shutil

import pytest

from jaxret.data.sets import multi30k, nrccr
from tests.parity import leccr_reference as reference


@pytest.fixture(scope='module')
def misc(leccr_golden):
  return reference.misc(leccr_golden)


@pytest.fixture(scope='module')
def toy(leccr_golden):
  return leccr_golden / 'toy_multi30k'


def test_leccr_text_cleaning(misc):
  assert misc['pre_caption']
  for case in misc['pre_caption']:
    assert nrccr.clean(case['in'], case['max_words']) == case['out']


def test_leccr_visual_ids(misc):
  assert misc['get_video_id']
  for case in misc['get_video_id']:
    assert nrccr.visual_id(case['in']) == case['out']


@pytest.mark.parametrize('place', ['leccr', 'nrccr'])
def test_leccr_training_pairs(misc, toy, tmp_path, place):
  """By key, whatever the order of the files; ids may lie where NRCCR's do."""
  root = toy
  if place == 'nrccr':
    root = shutil.copytree(toy, tmp_path / 'toy')
    (root / 'img_id').chmod(0o755)
    root.chmod(0o755)
    (root / 'img_id').rename(root / 'FeatureData')
  for language in misc['toy_dataset']['languages']:
    split = nrccr.read(
        multi30k.LAYOUT, root, 'train', language, toy / 'caption', 'IMG')
    wanted = misc['toy_dataset']['train_items']
    assert len(split.texts) == len(wanted)
    for i, item in enumerate(wanted):
      visual = split.text_video[i]
      assert [split.texts[i].text, split.translations[i].text] == (
          item['captions'])
      assert split.translations[i].id == item['cap_id']
      assert pathlib.Path(split.videos[visual].image) == pathlib.Path(
          item['image_path'])
      assert split.descriptions[visual] == item['generated_caption']
      assert visual == item['img_index']


def test_leccr_evaluation_split(misc, toy):
  wanted = misc['toy_dataset']['val']
  for language in misc['toy_dataset']['languages']:
    split = nrccr.read(
        multi30k.LAYOUT, toy, 'validation', language, toy / 'caption', 'IMG')
    assert [text.text for text in split.texts] == wanted['text']
    assert [text.id for text in split.texts] == wanted['cap_ids']
    assert split.text_video.tolist() == wanted['txt2img']
    assert [rows.tolist() for rows in split.video_to_text().relevant] == (
        wanted['img2txt'])
    assert [pathlib.Path(video.image).name for video in split.videos] == (
        wanted['image'])
    assert not split.translations
    for item in wanted['items']:
      video = split.videos[item['index']]
      assert pathlib.Path(video.image) == pathlib.Path(item['image_path'])
      assert split.descriptions[item['index']] == item['generated_caption']


def test_leccr_split_without_an_image_keeps_its_pairs(misc, toy):
  language = misc['toy_dataset']['languages'][0]
  split = nrccr.read(multi30k.LAYOUT, toy, 'train', language, toy / 'caption')
  dropped = split.videos[1].id
  rest = split.without([dropped])
  assert isinstance(rest, nrccr.ParallelSplit)
  assert dropped not in {video.id for video in rest.videos}
  assert len(rest.descriptions) == len(rest.videos) == len(split.videos) - 1
  kept = [i for i, text in enumerate(split.texts)
          if nrccr.visual_id(text.id) != dropped]
  assert rest.translations == tuple(split.translations[i] for i in kept)
  assert rest.texts == tuple(split.texts[i] for i in kept)
  assert split.without([]) is split
