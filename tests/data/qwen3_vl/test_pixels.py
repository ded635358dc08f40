"""Which frames Qwen3-VL looks at, at what size, and when they are shown."""
import numpy as np
import pytest

from configs import qwen3_vl
from jaxret.data.qwen3_vl import pixels

TOKEN = 32 * 32
OURS, THEIRS = pixels.Resolution(), pixels.Processor()


@pytest.mark.parametrize('n_frames, fps, count', [
    (100, 25, 4), (1000, 25, 40), (10000, 25, 64), (3, 25, 2), (5, 0, 4)])
def test_a_file_shows_one_frame_a_second_from_first_to_last(
    n_frames, fps, count):
  chosen = OURS.choose_frames(n_frames, fps)
  assert len(chosen) == count and count % 2 == 0
  assert (chosen[0], chosen[-1]) == (0, n_frames - 1)
  assert (np.diff(chosen) > 0).all()


def test_a_file_of_one_frame_shows_it_twice():
  np.testing.assert_array_equal(OURS.choose_frames(1, 25), [0, 0])


def test_of_a_long_list_some_are_shown_by_the_integer_below():
  few = pixels.Resolution(max_frames=4)
  np.testing.assert_array_equal(few.choose_listed(9), [0, 2, 5, 8])
  np.testing.assert_array_equal(few.choose_listed(3), [0, 1, 2])


def test_frames_are_smaller_where_there_are_many():
  """At most a total over all of them, by the pair; never under the least."""
  for n_frames, listed, most in (
      (2, True, 768), (20, True, 768), (64, True, 240), (640, True, 134),
      (64, False, 768), (640, False, 360)):
    least, got = OURS.frame_limits(n_frames, listed)
    assert (least, int(got / TOKEN)) == (128 * TOKEN, most)


def test_small_videos_are_enlarged_and_images_are_not():
  assert OURS.sizes('image', 64, 96) == [(64, 96)]
  for listed in (False, True):
    height, width = OURS.sizes('video', 64, 96, 4, listed)[-1]
    assert height * width >= 128 * TOKEN
  first, _ = OURS.sizes('video', 90, 100, 3, True)
  assert first == (128, 192)  # multiples of 64 before those of 32
  later = pixels.Resolution(listed_px=32)
  assert later.sizes('video', 90, 100, 3, True)[0] == (96, 96)


@pytest.mark.parametrize('policy', [OURS, THEIRS])
@pytest.mark.parametrize('kind, listed', [
    ('image', False), ('video', False), ('video', True)])
def test_frames_get_the_size_that_is_said(policy, kind, listed):
  n_frames = 1 if kind == 'image' else 3
  frames = np.random.default_rng(0).integers(
      0, 256, (n_frames, 70, 130, 3), np.uint8)
  got = policy.resize(kind, frames, listed)
  size = policy.sizes(kind, 70, 130, n_frames, listed)[-1]
  assert got.shape == (n_frames, *size, 3) and got.dtype == np.uint8
  patches, grid = pixels.patchify(got)
  assert grid == (-(-n_frames // 2), size[0] // 16, size[1] // 16)
  assert patches.shape == (np.prod(grid), 3 * 2 * 16 * 16)


def test_times_of_temporal_patches():
  assert pixels.seconds_shown([0, 0.5, 1, 1.5]) == ['0.2', '1.2']
  assert pixels.seconds_shown([0.5, 1, 1.5]) == ['0.8', '1.5']
  indices = np.array([0, 10, 20])
  np.testing.assert_array_equal(OURS.times(indices, 10, False), [0, 1, 2])
  np.testing.assert_array_equal(
      OURS.times(indices, None, True), [0, 0.5, 1, 1.5])
  np.testing.assert_array_equal(
      OURS.times(indices, 0, False), indices / 24)


def test_a_section_of_a_config_gives_its_fields():
  section = qwen3_vl.media()
  assert pixels.resolution(section) == OURS
  section.update(image=[TOKEN, 9 * TOKEN], n_frames=6)
  found = pixels.resolution(section)
  assert found.image == (TOKEN, 9 * TOKEN)
  for n_frames in (100, 1000):
    assert len(found.choose_frames(n_frames, 25)) == 6
  assert len(found.choose_listed(30)) == 6
  section.n_frames = 5
  with pytest.raises(ValueError, match='n_frames is 5, want an even number'):
    pixels.resolution(section)


@pytest.mark.parametrize('make, message', [
    (lambda: pixels.Resolution(image=(9000, 4000)), 'image: got .9000, 4000.'),
    (lambda: pixels.Processor(video=(1, 1023)), 'video: got .* 1024 or more'),
    (lambda: pixels.Resolution(max_frames=1), 'max_frames = 1; want'),
    (lambda: pixels.Processor(fps=0), 'got fps = 0')])
def test_limits_that_cannot_be_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_processor_counts_the_pixels_of_all_frames():
  few = pixels.video_resize(4, 720, 1280, THEIRS.video)
  many = pixels.video_resize(400, 720, 1280, THEIRS.video)
  assert few == (704, 1280) and 400 * np.prod(many) <= THEIRS.video[1]
  with pytest.raises(ValueError, match='aspect ratio of at most 200'):
    pixels.video_resize(4, 32, 32 * 300, THEIRS.video)
