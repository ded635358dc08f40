"""What a core makes ready: media as they are asked for, CPU time as it is."""
import time

import numpy as np

from jaxret import input_speed
from jaxret.data import media
from jaxret.indexing import windows


def test_media_are_of_the_size_and_length_that_is_asked_for():
  image = input_speed.medium(1, (30, 52))
  assert media.read_still(image.image, 'it').shape == (30, 52, 3)
  video = input_speed.medium(4, (33, 48), seconds=1.0)
  seen = []
  frames = media.sample_frames(
      video.video, lambda count, fps: seen.append(count) or np.arange(4))
  assert len(frames) == 4 and frames[0].shape == (32, 48, 3)
  assert seen == [25]  # as a second has
  assert not np.array_equal(frames[0], frames[3])


def test_core_seconds_are_those_of_the_processor():
  def busy():
    start = time.process_time()
    while time.process_time() - start < 0.01:
      pass
  assert 0.01 <= input_speed.core_seconds(busy, 0.05) < 0.02


def test_a_video_is_as_long_as_a_window_of_an_index():
  assert input_speed.SECONDS == windows.LENGTH_S
