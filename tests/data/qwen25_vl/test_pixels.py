"""Sizes of Qwen2.5-VL's media: resized once, videos by their number of frames.
"""
import numpy as np
import pytest

from jaxret.data.qwen25_vl import pixels

TOKEN = 28 * 28


def test_an_odd_number_of_frames_counts_as_one_more():
  """The last is shown twice, and the share of each is that of all shown."""
  few = pixels.Resolution(read_video=(TOKEN, 768 * TOKEN),
                          video_total=60 * TOKEN)
  assert few.sizes('video', 280, 280, 5) == few.sizes('video', 280, 280, 6)
  assert few.sizes('video', 280, 280, 5) != few.sizes('video', 280, 280, 4)
  frames = np.zeros((5, 280, 280, 3), np.uint8)
  assert [few.resize('video', frames).shape[1:3]] == few.sizes(
      'video', 280, 280, 5)


def test_images_are_resized_to_their_own_limits():
  small = pixels.Resolution(read_image=(TOKEN, 4 * TOKEN))
  assert small.sizes('image', 280, 280) == [(56, 56)]


@pytest.mark.parametrize('fields', [
    {'released': True}, {'processor': (TOKEN, 4 * TOKEN)}])
def test_what_has_no_effect_is_refused(fields):
  with pytest.raises(ValueError, match=f'{next(iter(fields))} = .* no effect'):
    pixels.Resolution(**fields)
