"""What a run sees of images: each decoded once, whoever asks for it."""
import collections
import json

import numpy as np
import pytest
from PIL import Image

from jaxret import main
from jaxret.data import bigfile, media
from jaxret.methods.leccr import run, visuals
from tests import tiny_cross_lingual

LANGUAGES = ('de', 'fr', 'cs', 'zh')
SPLITS = ('train', 'validation', 'test')
PX, N_IMAGES = 8, 6
IMAGE_BYTES = PX * PX * 3


def make_config(root, **fields):
  config = main.load_config(f'{tiny_cross_lingual.CONFIG}:multi30k_de')
  config.update_from_flattened_dict({
      'data.root': str(root), 'data.languages': LANGUAGES,
      'model.image_px': PX, **fields})
  return config


@pytest.fixture
def root(tmp_path):
  """Six images, which are those of every split in four languages."""
  root = tmp_path / 'multi30k'
  return tiny_cross_lingual.write_multi30k(root, LANGUAGES, N_IMAGES)


@pytest.fixture
def opened(monkeypatch):
  """(decoded, caches): how often each file was, and every media.Frames."""
  decoded, caches = collections.Counter(), []
  class Frames(media.Frames):
    def __init__(self, *args, **options):
      super().__init__(*args, **options)
      caches.append(self)
  def load_frames(item, *args, whole=media.load_frames):
    decoded[item.image] += 1
    return whole(item, *args)
  monkeypatch.setattr(media, 'Frames', Frames)
  monkeypatch.setattr(media, 'load_frames', load_frames)
  return decoded, caches


def read_all(data):
  """One epoch of every language and split, each image against its file."""
  for key, split in data.splits.items():
    for video, frames in zip(split.videos, data.visuals[key], strict=True):
      with Image.open(video.image) as image:
        np.testing.assert_array_equal(frames[0], np.array(image))


def cached_bytes(caches):
  return sum(frames.nbytes for cache in caches
             for frames in cache._cache.values())


def test_each_image_is_decoded_once_for_all_languages(root, tmp_path, opened):
  decoded, caches = opened
  data = run.open_data(make_config(root), tmp_path / 'run', SPLITS)
  assert len(data.splits) == len(data.visuals) == 12
  for _ in range(2):
    read_all(data)
  assert len(decoded) == N_IMAGES and set(decoded.values()) == {1}
  assert cached_bytes(caches) == N_IMAGES * IMAGE_BYTES


def test_one_budget_bounds_all_that_is_kept(root, tmp_path, opened):
  decoded, caches = opened
  budget = 4 * IMAGE_BYTES
  data = run.open_data(
      make_config(root, **{'data.cache_gb': budget / 2 ** 30}),
      tmp_path / 'run', SPLITS)
  read_all(data)
  assert cached_bytes(caches) == budget
  # The two that are not kept are decoded whenever they are read.
  assert sorted(decoded.values())[:4] == [1] * 4
  assert sorted(decoded.values())[4:] == [12 + len(SPLITS)] * 2


def test_an_unreadable_image_is_left_out_of_every_language(
    root, tmp_path, opened):
  (root / '2.jpg').write_bytes(b'no image')
  data = run.open_data(make_config(root), tmp_path / 'run', SPLITS)
  for split in data.splits.values():
    assert [video.id for video in split.videos] == ['0', '1', '3', '4', '5']
  read_all(data)
  lines = (tmp_path / 'run' / 'skipped.jsonl').read_text().splitlines()
  assert [(line['id'], line['split']) for line in map(json.loads, lines)] == [
      ('2', name) for name in SPLITS]


def test_languages_may_have_images_of_their_own(root, tmp_path, opened):
  """Those to evaluate come in the order of a language's captions."""
  path = root / 'TextData' / 'multi30ktest_fr_2016.caption.txt'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(lines[:0:-1]))
  data = run.open_data(make_config(root), tmp_path / 'run', SPLITS)
  ids = {language: [video.id for video in data.splits[language, 'test'].videos]
         for language in LANGUAGES}
  assert ids == {**dict.fromkeys(LANGUAGES, list('012345')),
                 'fr': list('54321')}
  read_all(data)
  assert set(opened[0].values()) == {1}


def test_a_captioner_may_keep_what_the_images_leave(root, tmp_path):
  """So that both together stay within one budget."""
  for room, spare in ((10, 4), (N_IMAGES, 0), (2, 0)):
    config = make_config(
        root, **{'data.cache_gb': room * IMAGE_BYTES / 2 ** 30})
    data = run.open_data(config, tmp_path / 'run', SPLITS)
    assert visuals.spare_bytes(config, data.splits) == spare * IMAGE_BYTES


def test_features_are_opened_once_for_all_languages(
    root, tmp_path, monkeypatch):
  features = tmp_path / 'features'
  features.mkdir()
  vectors = np.random.default_rng(0).normal(
      size=(N_IMAGES, 4)).astype(np.float32)
  names = [f'{i}_0' for i in range(N_IMAGES)]
  (features / 'shape.txt').write_text(f'{N_IMAGES} 4')
  (features / 'id.txt').write_text(' '.join(names))
  (features / 'feature.bin').write_bytes(vectors.tobytes())
  (features / 'video2frames.txt').write_text(
      repr({name[:-2]: [name] for name in names}))
  opened = []
  def open_file(path, whole=bigfile.read_video2frames):
    opened.append(path)
    return whole(path)
  monkeypatch.setattr(bigfile, 'read_video2frames', open_file)
  config = make_config(root, **{'data.features': str(features)})
  data = run.open_data(config, tmp_path / 'run', SPLITS)
  assert len(opened) == 1 and len(data.visuals) == 12
  for key, split in data.splits.items():
    for i, video in enumerate(split.videos):
      np.testing.assert_array_equal(
          data.visuals[key][i], vectors[[int(video.id)]])
