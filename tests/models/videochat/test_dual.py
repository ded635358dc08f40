"""The dual encoder: what is pooled, and what its parts may see."""
import functools

import jax
import numpy as np
import pytest

from jaxret.models import decoder
from jaxret.models.videochat import dual, vision

MODULE = dual.DualEncoder(
    vision.VisionConfig(image_px=12, patch_px=4, n_frames=2, width=16, layers=1,
                        heads=2, mlp_width=24, table_grid=4),
    decoder.DecoderConfig(30, 16, 24, 2, 4, 2, 4), 6, 4)


@pytest.fixture(scope='module')
def frames():
  return np.random.default_rng(0).integers(0, 256, (2, 4, 12, 12, 3), np.uint8)


@pytest.fixture(scope='module')
def tokens():
  return np.random.default_rng(1).integers(0, 30, (2, 5)).astype(np.int32)


@pytest.fixture(scope='module')
def params(frames, tokens):
  return jax.jit(MODULE.init)(
      jax.random.key(0), frames, tokens, np.array([5, 3]))


@pytest.mark.slow
def test_a_video_is_the_projection_of_its_clips_means(params, frames):
  """Side by side, so that their order counts."""
  tokens = np.asarray(jax.jit(functools.partial(
      MODULE.apply, method='clip_tokens'))(params, frames))
  assert tokens.shape == (2, 2, 2 * 9, 16)
  kernel = np.asarray(params['params']['video_projection']['kernel'])
  embed = jax.jit(functools.partial(MODULE.apply, method='embed_video'))
  got = np.asarray(embed(params, frames))
  for row in range(2):
    means = [clip.mean(0, dtype=np.float64) for clip in tokens[row]]
    want = np.concatenate(means) @ kernel
    np.testing.assert_allclose(
        got[row], want / np.linalg.norm(want), atol=1e-5)
  other = embed(params, frames[:, [2, 3, 0, 1]])
  assert np.abs(other - got).max() > 1e-3


@pytest.mark.slow
def test_a_text_is_its_last_token_and_padding_has_no_part(params, tokens):
  embed = jax.jit(lambda tokens, lengths: MODULE.apply(
      params, tokens, lengths, method='embed_text'))
  got = embed(tokens, np.array([5, 3]))
  np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
  padded = np.where(np.arange(5) < [[5], [3]], tokens, 7)
  np.testing.assert_allclose(
      embed(padded, np.array([5, 3])), got, atol=1e-6)
  for row, length in enumerate((5, 3)):
    alone = embed(tokens[row:row + 1, :length], np.array([length]))
    np.testing.assert_allclose(alone[0], got[row], atol=1e-5)
  assert np.abs(embed(tokens, np.array([5, 4]))[1] - got[1]).max() > 1e-3


@pytest.mark.slow
def test_a_caption_token_is_told_by_the_video_and_those_before(
    params, frames, tokens):
  """The rows of logits from the one that a changed token follows differ."""
  @jax.jit
  def logits(frames, tokens):
    terms = MODULE.apply(params, frames, tokens, np.array([5, 5]))[3]
    return sum(left @ right for left, right in terms)
  before = logits(frames, tokens)
  assert before.shape == (2, 5, 30)
  for place in range(5):
    changed = tokens.copy()
    changed[:, place] = (changed[:, place] + 1) % 30
    moved = np.abs(logits(frames, changed) - before).max((0, 2)) > 1e-5
    np.testing.assert_array_equal(moved, np.arange(5) > place)
  moved = np.abs(logits(255 - frames, tokens) - before).max(2) > 1e-5
  assert moved.all()
