"""Which frames of a video are looked at, and how often they come."""
import numpy as np
import pytest

from jaxret.data import media, types
from jaxret.data.qwen2_vl import pixels, seen
from tests import numbered_videos, tiny_unite

TOKEN = 28 * 28
RESOLUTION = pixels.Resolution(
    released=False, processor=(TOKEN, 6 * TOKEN),
    read_video=(TOKEN, 6 * TOKEN), fps=2.0, max_frames=6, min_frames=2)


def test_media_come_by_kind_and_in_order():
  images = tiny_unite.pixels(0), tiny_unite.pixels(1)
  video = tiny_unite.pixels(2, frames=3)
  kinds, found = seen.media_of(types.Item(
      'x', text='up', video=video, image=images))
  assert kinds == ('image', 'image', 'video')
  assert [one is other for one, other in zip(found, (*images, video))] == (
      [True] * 3)


@pytest.mark.parametrize('n_frames, looked_at', [(50, 4), (200, 6), (1, 2)])
def test_a_file_says_how_often_its_frames_come(n_frames, looked_at):
  """25 a second, of which 2 are looked at, or 6 of all."""
  source = numbered_videos.video(n_frames)
  frames, sampled = seen.frames('x', 'video', source, RESOLUTION, 'white')
  assert (len(frames), sampled.n_frames, sampled.fps) == (
      looked_at, n_frames, 25)
  np.testing.assert_array_equal(
      sampled.indices, pixels.choose_frames(n_frames, 25, RESOLUTION))
  assert sampled.rate == looked_at / (n_frames / 25)
  grid, header = seen.grid('x', 'video', source, RESOLUTION)
  assert grid == pixels.grid_of(*frames.shape[:3])
  assert header.rate == sampled.rate


@pytest.mark.parametrize('n_frames, rate', [(4, 2.0), (12, 1.0)])
def test_a_list_of_frames_comes_twice_a_second(n_frames, rate):
  """As the authors' code has it; of too many some are looked at."""
  array = tiny_unite.pixels(0, frames=n_frames)
  for source in (array, tuple(array)):
    frames, sampled = seen.frames('x', 'video', source, RESOLUTION, 'white')
    assert sampled.fps is None and sampled.rate == rate
    assert len(frames) == min(n_frames, 6)
    grid, header = seen.grid('x', 'video', source, RESOLUTION)
    assert grid[0] == len(frames) / 2 and header.rate == rate


def test_an_image_has_no_time():
  source = tiny_unite.pixels(0)
  frames, sampled = seen.frames('x', 'image', source, RESOLUTION, 'white')
  assert len(frames) == 1 and sampled is None
  assert seen.grid('x', 'image', source, RESOLUTION)[1] is None


def test_errors_name_the_item():
  for use in (lambda: seen.frames('x', 'image', b'none', RESOLUTION, 'white'),
              lambda: seen.grid('x', 'image', b'none', RESOLUTION)):
    with pytest.raises(media.MediaError, match='x: its image cannot be read'):
      use()
