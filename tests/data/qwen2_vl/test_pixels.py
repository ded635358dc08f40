"""Qwen2-VL's sizes, frames and patches against plain loops."""
import fractions

import numpy as np
import pytest

from jaxret.data.qwen2_vl import pixels

LIMITS = 4 * 28 ** 2, 64 * 28 ** 2


def test_sizes_are_multiples_of_a_token_within_the_limits():
  random = np.random.default_rng(0)
  for height, width in random.integers(28, 2000, (200, 2)):
    got = pixels.smart_resize(int(height), int(width), LIMITS)
    assert not any(side % 28 for side in got)
    assert LIMITS[0] <= got[0] * got[1] <= LIMITS[1]
    # The ratio is kept as far as tokens allow.
    if min(got) > 28:
      ratio = fractions.Fraction(got[0] * int(width), got[1] * int(height))
      assert (1 - 28 / min(got)) ** 2 < ratio < (1 + 28 / min(got)) ** 2
    assert pixels.smart_resize(*got, LIMITS) == got


def test_shapes_too_long_are_refused():
  with pytest.raises(ValueError, match='want an aspect ratio of at most 200'):
    pixels.smart_resize(10, 2001, LIMITS)
  with pytest.raises(ValueError, match='20x300 pixels: want sides of at least'):
    pixels.smart_resize(300, 20, LIMITS, 'tf447')


@pytest.mark.parametrize('n_frames, fps, count', [
    (240, 24, 10), (24, 24, 4), (2400, 24, 12), (5, 5, 4), (3, 3, 2)])
def test_one_frame_a_second_between_least_and_most(n_frames, fps, count):
  found = pixels.choose_frames(n_frames, fps, pixels.Resolution())
  assert len(found) == count
  assert found[0] == 0 and found[-1] == n_frames - 1 or n_frames == 3
  gaps = np.diff(found)
  assert gaps.max() - gaps.min() <= 1


def test_a_single_frame_is_seen_twice():
  assert pixels.choose_frames(1, 30, pixels.Resolution()).tolist() == [0, 0]


@pytest.mark.parametrize('n_frames', [1, 2, 3, 4])
def test_patches_hold_the_pixels_that_a_loop_finds(n_frames):
  frames = np.random.default_rng(0).integers(
      0, 256, (n_frames, 56, 84, 3), np.uint8)
  found, (t, h, w) = pixels.patchify(frames)
  assert (t, h, w) == (-(-n_frames // 2), 4, 6) == pixels.grid_of(
      n_frames, 56, 84)
  assert found.shape == (t * h * w, 3 * 2 * 14 * 14)
  number = 0
  for piece in range(t):
    for top in range(0, h, 2):
      for left in range(0, w, 2):
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
          y, x = 14 * (top + row), 14 * (left + column)
          wanted = [frames[min(2 * piece + time, n_frames - 1),
                           y:y + 14, x:x + 14, channel].ravel()
                    for channel in range(3) for time in range(2)]
          np.testing.assert_array_equal(found[number], np.concatenate(wanted))
          number += 1


def test_resizing_in_float_keeps_constants_and_means():
  frame = np.full((30, 40, 3), 77, np.uint8)
  assert (pixels.resize_in_float(frame, (28, 56)) == 77).all()
  noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
  half = pixels.resize_in_float(noise, (56, 56))
  np.testing.assert_allclose(half.mean(), noise.mean(), atol=1.5)
  np.testing.assert_array_equal(
      pixels.resize_in_float(noise, (112, 112)), noise)
