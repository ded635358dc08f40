"""First-stage scores: rows and columns of what is used, by plain loops."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret.data import types
from jaxret.methods.blim import first_stage

N_VIDEOS, N_TEXTS = 4, 6


def config(path):
  """No root: the data set's files are not read again."""
  return ConfigDict({'eval': {'first_stage': str(path)},
                     'data': {'name': 'folder', 'root': '/no/such/folder'}})


@pytest.fixture
def whole():
  return types.Split(
      'folder', 'test', tuple(types.Item(f'v{i}') for i in range(N_VIDEOS)),
      tuple(types.Item(f't{i}', text='a') for i in range(N_TEXTS)),
      np.array([0, 1, 2, 3, 1, 0], np.int32))


def matrices():
  random = np.random.default_rng(0)
  return {'text_to_video': random.normal(size=(N_TEXTS, N_VIDEOS)),
          'video_to_text': random.normal(size=(N_VIDEOS, N_TEXTS))}


@pytest.mark.parametrize('dropped', [(), ('v1',), ('v0', 'v3')])
def test_scores_of_left_out_items_are_dropped(whole, tmp_path, dropped):
  stored = matrices()
  np.savez(tmp_path / 'test.npz', **stored)
  split = whole.without(dropped)
  found = first_stage.from_file(
      config(tmp_path / '{split}.npz'), whole, split)
  for t, text in enumerate(split.texts):
    for v, video in enumerate(split.videos):
      row, column = int(text.id[1:]), int(video.id[1:])
      assert found['text_to_video'][t, v] == np.float32(
          stored['text_to_video'][row, column])
      assert found['video_to_text'][v, t] == np.float32(
          stored['video_to_text'][column, row])
  assert found['text_to_video'].shape == found['video_to_text'].T.shape == (
      len(split.texts), len(split.videos))
  assert found['text_to_video'].dtype == np.float32


@pytest.mark.parametrize('change, message', [
    (lambda stored: stored.pop('video_to_text'),
     'has no video_to_text, only text_to_video'),
    (lambda stored: stored.update(text_to_video=np.zeros((2, 3))),
     r'text_to_video has shape \(2, 3\), wanted \(6, 4\) for split test of '
     r'folder: put \{split\}')])
def test_matrices_of_other_shapes_are_refused_in_one_line(
    whole, tmp_path, change, message):
  stored = matrices()
  change(stored)
  np.savez(tmp_path / 'x.npz', **stored)
  with pytest.raises(ValueError, match=message) as error:
    first_stage.from_file(config(tmp_path / 'x.npz'), whole, whole)
  assert '\n' not in str(error.value)


def test_nan_is_refused_unless_of_items_that_are_left_out(whole, tmp_path):
  stored = matrices()
  stored['video_to_text'][0] = np.nan
  np.savez(tmp_path / 'x.npz', **stored)
  with pytest.raises(ValueError, match='video_to_text has NaN for items of'):
    first_stage.from_file(config(tmp_path / 'x.npz'), whole, whole)
  found = first_stage.from_file(
      config(tmp_path / 'x.npz'), whole, whole.without(('v0',)))
  assert np.isfinite(found['video_to_text']).all()


@pytest.mark.parametrize('content', [None, b'no archive'])
def test_a_file_that_cannot_be_read_is_refused(whole, tmp_path, content):
  if content:
    (tmp_path / 'x.npz').write_bytes(content)
  with pytest.raises(ValueError, match='x.npz cannot be read'):
    first_stage.from_file(config(tmp_path / 'x.npz'), whole, whole)
