"""The compiled parts of scoring against numpy."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import kernels
from tests.tiny_likelihood import ATOL, CONFIG, MODEL, log_softmax

RANDOM = np.random.default_rng(4)


def kernel(params, *path):
  leaf = params['params']
  for name in path:
    leaf = leaf[name]
  return np.asarray(leaf['kernel'], np.float64)


@pytest.mark.parametrize('nonzero', [True, False])
def test_mean_divides_by_the_labels_that_count(nonzero):
  value = -RANDOM.random((3, 4, 5)).astype(np.float32)
  value[:, 1, 2] = 0  # a label of which the model is sure
  lengths = RANDOM.integers(3, 6, (3, 4)).astype(np.int32)
  value[np.arange(5) >= lengths[..., None]] = 0
  got = kernels.mean_log_likelihood(value, lengths, nonzero)
  for index in np.ndindex(3, 4):
    labels = [float(v) for v in value[index][:lengths[index]]]
    count = sum(v != 0 for v in labels) if nonzero else len(labels)
    assert got[index] == pytest.approx(sum(labels) / count, rel=1e-5)


def test_next_token_is_a_distribution_of_one_row_each(params):
  last = RANDOM.normal(size=(3, CONFIG.decoder.width)).astype(np.float32)
  got = kernels.next_token(MODEL, params, last)
  np.testing.assert_allclose(got, log_softmax(
      last @ kernel(params, 'decoder', 'lm_head')), atol=ATOL)


def test_first_clip_is_told_apart_from_first_clips_alone(params):
  last = RANDOM.normal(size=(3, CONFIG.decoder.width)).astype(np.float32)
  vocabulary = RANDOM.normal(size=(5, 3, 6)).astype(np.float32)
  got = kernels.first_clip(MODEL, params, last, vocabulary)
  queries = last @ kernel(params, 'visual_head')
  np.testing.assert_allclose(
      got, log_softmax(queries @ vocabulary[:, 0].T / 6 ** 0.5), atol=ATOL)
  vocabulary[:, 1:] += 1
  np.testing.assert_array_equal(
      kernels.first_clip(MODEL, params, last, vocabulary), got)


def test_a_tile_does_not_depend_on_its_other_rows(params, features, prompts):
  """Captions of one video, scored with and without another video beside it."""
  tokens = np.asarray(prompts.visual_prefix)
  index = np.array([[0, 2]])
  labels = np.stack([prompts.labels[i] for i in index[0]])[None]
  count, size = labels.shape[1:]
  place = np.arange(count * (size - 1), dtype=np.int32)
  inputs = (labels[..., :-1].reshape(1, -1), place % (size - 1),
            place.reshape(count, -1), place)
  def scores(videos):
    first, cache = kernels.visual_prefix(
        MODEL, params, tokens, features[videos])
    start = np.full(len(videos), len(tokens), np.int32)
    return np.asarray(kernels.text_tile(
        MODEL, False, params, first, cache, start, inputs, labels,
        np.full((1, count), size, np.int32)))
  both = scores([1, 3])
  assert both.shape == (2, 2) and np.abs(both[0] - both[1]).min() > 1e-3
  np.testing.assert_allclose(scores([1]), both[:1], atol=ATOL)
  np.testing.assert_allclose(scores([3]), both[1:], atol=ATOL)
