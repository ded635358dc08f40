"""A part of a video is the frames that are shown then, and no others."""
import numpy as np
import pytest

from jaxret.data import clips, media, types, visual_features
from jaxret.data.dual_encoder import pixels
from jaxret.data.qwen2_vl import seen
from tests import numbered_videos


def every(n_frames, fps):
  return range(n_frames)


def shown(source):
  return [numbered_videos.number(frame)
          for frame in media.sample_frames(source, every)]


@pytest.fixture(scope='module')
def video(tmp_path_factory):
  path = tmp_path_factory.mktemp('clips') / 'a.mp4'
  path.write_bytes(numbered_videos.video(100))  # 25 a second
  return str(path)


@pytest.mark.parametrize('start, end, want', [
    (0, 4, range(100)), (0, 1, range(25)), (1, 2, range(25, 50)),
    (1.02, 1.1, range(26, 28)), (3.5, 9, range(88, 100)),
    (1.001, 1.002, [25]), (50, 60, [99])])
def test_frames_of_a_clip(video, start, end, want):
  assert shown(clips.Clip(video, start, end)) == list(want)
  assert media.probe(clips.Clip(video, start, end)).n_frames == len(list(want))


def test_an_uneven_rate_is_cut_by_time(tmp_path):
  """Frame i is shown at i / 25 s, then at three times that distance."""
  pts = [*range(20), *range(20, 80, 3)]
  path = tmp_path / 'a.mp4'
  path.write_bytes(numbered_videos.video(40, pts=pts))
  for start, end in ((0, 0.8), (0.8, 1.6), (0.4, 2.0)):
    want = [i for i, at in enumerate(pts)
            if start - 1e-6 <= at / 25 < end - 1e-6]
    assert shown(clips.Clip(str(path), start, end)) == want


def test_bytes_and_animations(tmp_path, video):
  with open(video, 'rb') as file:
    assert shown(clips.Clip(file.read(), 2, 3)) == list(range(50, 75))
  from PIL import Image
  stills = [Image.fromarray(numbered_videos.numbered(i)) for i in range(8)]
  path = str(tmp_path / 'a.gif')
  stills[0].save(path, save_all=True, append_images=stills[1:], duration=100)
  assert shown(clips.Clip(path, 0.2, 0.5)) == [2, 3, 4]
  assert media.probe(clips.Clip(path, 0.2, 0.5)).n_frames == 3


def test_a_changed_file_is_read_anew(tmp_path, video):
  path = tmp_path / 'a.mp4'
  path.write_bytes(numbered_videos.video(30))
  assert shown(clips.Clip(str(path), 0, 9)) == list(range(30))
  path.write_bytes(numbered_videos.video(50))
  assert shown(clips.Clip(str(path), 0, 9)) == list(range(50))


def test_readers_see_a_clip_as_a_video(video):
  class Processor:
    size, crop, resample, patch_px, max_patches = (32, 128), None, 2, 4, None
  policy = pixels.Policy(Processor, pixels.Resolution(5))
  frames, sampled = seen.frames('x', 'video', clips.Clip(video, 1, 2), policy,
                                'white')
  assert [numbered_videos.number(frame) for frame in frames] == [
      25, 31, 37, 43, 49]
  assert (sampled.n_frames, sampled.fps) == (25, 25)
  item = types.Item('x', video=clips.Clip(video, 1, 2))
  assert media.load_frames(item, 3, 16).shape == (3, 16, 16, 3)


def test_contents_tell_clips_apart(video):
  def key(source):
    return visual_features.content_key('x', 'video', source)
  found = {key(video), *(key(clips.Clip(video, start, end))
                         for start, end in ((0, 1), (1, 2), (0, 2)))}
  assert len(found) == 4
  assert key(clips.Clip(video, 0, 1)) == key(clips.Clip(video, 0, 1))


@pytest.mark.parametrize('start, end', [
    (1, 1), (2, 1), (-1, 2), (np.nan, 1), (0, np.nan)])
def test_times_that_are_no_span_are_refused(start, end):
  with pytest.raises(ValueError, match='a clip from'):
    clips.Clip('a.mp4', start, end)
