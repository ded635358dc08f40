"""Features of videos: what a tower gives, and videos that have none."""
import jax
import numpy as np
import pytest

from configs import blim as blim_config
from jaxret import skipped
from jaxret.data import features as features_data
from jaxret.data import types
from jaxret.methods.blim import features
from jaxret.models.videochat import vision
from tests import tiny_runs


@pytest.fixture
def config():
  config = blim_config.get_config()
  config.update_from_flattened_dict(tiny_runs.TINY)
  return config


def split(name, ids):
  return types.Split(
      'tiny', name, tuple(types.Item(video) for video in ids),
      tuple(types.Item(f'{video}#0', text='a') for video in ids),
      np.arange(len(ids), dtype=np.int32))


@pytest.fixture
def tower(config):
  sizes = vision.vision_config(config.vision)
  pixels = np.zeros((1, 2, 32, 32, 3), np.float32)
  params = jax.jit(vision.VisionTower(sizes).init)(
      jax.random.key(0), pixels)['params']
  return features.trained_tower(
      config, {'params': {'vision': params}})


@pytest.mark.slow
def test_features_are_those_of_each_video_alone(config, tower, tmp_path):
  """In memory or stored, whatever the batch and the devices."""
  frames = np.random.default_rng(0).integers(
      0, 256, (5, 4, 32, 32, 3), np.uint8)
  config.data.extract_batch_size = 2
  found = features.extract_all(config, frames, tower)
  stored = features.store_features(
      config, tmp_path, split('test', 'abcde'), frames, tower)
  assert found.shape == (5, *features.feature_shape(config))
  assert found.dtype == np.float16 and len(stored) == 5
  for i in range(5):
    alone = vision.encode_clips(
        tower.config, tower.params, frames[i:i + 1],
        config.vision.tokens_per_clip)[0]
    for got in (found[i], stored[i]):
      np.testing.assert_allclose(got, alone, atol=2e-3, rtol=2e-3)
  assert np.ptp(found.astype(np.float32), 0).max() > 0.01


@pytest.fixture
def stored(config, tmp_path):
  """Features of 'a' and 'c' that were stored elsewhere."""
  config.data.features = str(tmp_path / 'features')
  features_data.write_features(
      config.data.features, ['a', 'c'],
      lambda indices: np.stack([np.full((2, 2, 16), i) for i in indices]),
      {'source': 'test'}, progress=False)
  return config


def test_training_leaves_out_videos_without_features(stored, tmp_path):
  found, visuals = features.open_features(
      stored, split('train', 'abc'), tmp_path)
  assert [video.id for video in found.videos] == ['a', 'c']
  assert [text.id for text in found.texts] == ['a#0', 'c#0']
  assert [float(visuals[i].max()) for i in range(2)] == [0, 1]
  assert skipped.read(tmp_path) == [
      {'id': 'b', 'reason': 'no stored features', 'split': 'train'}]
  assert features.has_stored_features(stored)
  assert features.feature_shape(stored) == (2, 2, 16)


def test_features_of_another_data_set_are_refused(stored, tmp_path):
  with pytest.raises(ValueError, match="first id is 'x': it belongs to anoth"):
    features.open_features(stored, split('train', 'xyz'), tmp_path)
  with pytest.raises(ValueError, match='b'):
    features.open_features(stored, split('test', 'abc'), tmp_path)


def test_frames_of_what_cannot_be_read_are_left_out(config, tmp_path):
  """The others keep their own frames, captions and order."""
  for i, name in enumerate('abc'):
    (tmp_path / f'{name}.mp4').write_bytes(tiny_runs.video_bytes(i))
  (tmp_path / 'b.mp4').write_bytes(b'no video')
  whole = types.Split(
      'tiny', 'test', tuple(
          types.Item(name, video=str(tmp_path / f'{name}.mp4'))
          for name in 'abc'),
      tuple(types.Item(str(i), text='a') for i in range(4)),
      np.array([2, 1, 0, 2], np.int32))
  found, frames = features.open_frames(config, whole, tmp_path / 'run')
  assert [video.id for video in found.videos] == ['a', 'c']
  assert [text.id for text in found.texts] == ['0', '2', '3']
  assert found.text_video.tolist() == [1, 0, 1]
  every = features.frames_of(config, whole.videos)
  assert len(frames) == 2
  for i, old in enumerate((0, 2)):
    np.testing.assert_array_equal(frames[i], every[old])
  assert (frames[0] != frames[1]).any()


def test_a_tower_is_needed_where_no_features_are(config):
  config.before, config.model.pretrained = (), ''
  with pytest.raises(ValueError, match='no features and no vision tower'):
    features.feature_shape(config)


def test_the_kernel_of_the_config_reaches_the_tower(config):
  """cuDNN knows no float32: a tower that got the field refuses it."""
  params = {'params': {'vision': {'kernel': np.zeros(2, np.float32)}}}
  assert features.trained_tower(config, params).config.attention == 'xla'
  config.model.attention = 'cudnn'
  with pytest.raises(ValueError, match='cudnn'):
    features.trained_tower(config, params)
