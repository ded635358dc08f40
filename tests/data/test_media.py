"""What is seen of items: sampled, repeated, listed, and refused by name."""
import concurrent.futures
import gc
import io
import wave
import weakref

import numpy as np
import pytest
from PIL import Image

from jaxret.data import media
from jaxret.data.types import Item
from jaxret.models.videochat import vision
from tests.numbered_videos import video


def test_sampling_is_the_authors():
  for n in (2, 3, 15, 16, 17, 100, 1001):
    want = [int(k * (n - 2) / 15) for k in range(16)]  # linspace by hand
    got = media.frame_indices(n, 16)
    assert got.dtype == np.int64
    assert np.abs(got - want).max() <= 1  # rounding of k * (n - 2) / 15
    assert got[0] == 0 and got[-1] == n - 2
    np.testing.assert_array_equal(got, np.linspace(0, n - 2, 16, dtype=int))
  assert media.frame_indices(1, 4).tolist() == [0, 0, 0, 0]


def test_the_limit_cuts_long_videos_only():
  # 40 s at 25/s: the last sampled frame is that of 30 s less two frames.
  assert media.frame_indices(1000, 16, 25.0, 30)[-1] == 748
  assert media.frame_indices(750, 16, 25.0, 30)[-1] == 748
  assert media.frame_indices(500, 16, 25.0, 30)[-1] == 498
  with pytest.raises(ValueError, match='frame rate'):
    media.frame_indices(500, 16, None, 30)
  with pytest.raises(ValueError, match='want at least'):
    media.frame_indices(0, 16)


@pytest.mark.parametrize('n_frames', [1, 2, 5])
def test_short_videos_repeat_frames(n_frames):
  frames = media.load_frames(Item('a', video=video(n_frames)), 16, 32)
  assert frames.shape == (16, 32, 32, 3) and frames.dtype == np.uint8


def test_resize_and_normalise_by_hand():
  frames = np.random.default_rng(0).integers(0, 256, (2, 9, 14, 3), np.uint8)
  for small, frame in zip(media.resize(frames, 8), frames):
    image = Image.fromarray(frame).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small, np.asarray(image))
  value = vision.pixel_values(np.full((1, 1, 1, 3), 128, np.uint8))
  assert value.dtype == np.float32
  np.testing.assert_allclose(
      value.ravel(), [(128 / 255 - 0.485) / 0.229,
                      (128 / 255 - 0.456) / 0.224,
                      (128 / 255 - 0.406) / 0.225], rtol=1e-6)


def _sound():
  file = io.BytesIO()
  with wave.open(file, 'wb') as sound:
    sound.setnchannels(1)
    sound.setsampwidth(2)
    sound.setframerate(8000)
    sound.writeframes(b'\0' * 8000)
  return file.getvalue()


def _damaged():
  # From the middle of the frame data on, everything is overwritten.
  data = bytearray(video(60, options={'crf': '1'}))
  start = data.index(b'mdat')
  end = data.index(b'moov')
  middle = (start + end) // 2
  data[middle:end - 4] = b'\xff' * (end - 4 - middle)
  return bytes(data)


def _cut():
  data = video(60, container_options={'movflags': 'faststart'})
  return data[:len(data) * 3 // 4]


@pytest.mark.parametrize('data, reason', [
    (b'', 'empty'),
    (b'this is a text, not a video\n' * 40, 'not a readable video'),
    (_sound(), 'no video stream'),
    (_damaged(), 'decoding failed'),
    (_cut(), 'truncated|cannot be read')])
def test_a_bad_video_is_one_clear_line(data, reason, tmp_path):
  file = tmp_path / 'bad.mp4'
  file.write_bytes(data)
  for source in (data, str(file)):
    with pytest.raises(media.MediaError, match=reason) as error:
      media.load_frames(Item('clip 7', video=source), 16, 32)
    assert str(error.value).startswith('clip 7: ')
    assert '\n' not in str(error.value)


def test_missing_things_are_media_errors(tmp_path):
  missing = str(tmp_path / 'nothing.mp4')
  with pytest.raises(media.MediaError, match='no such file'):
    media.probe(missing)
  for item in (Item('a', video=missing), Item('a', image=missing),
               Item('a', text='no medium'), Item('a', video=str(tmp_path)),
               Item('a', image=b'no image')):
    with pytest.raises(media.MediaError, match='^a: '):
      media.load_frames(item, 4, 32)
  with pytest.raises(ValueError, match='want 0 <= index'):
    media.sample_frames(video(5), lambda n_frames, fps: [5])


def test_a_still_image_is_repeated_and_turned(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
  exif = Image.Exif()
  exif[0x0112] = 6  # to be shown turned by a quarter, clockwise
  file = tmp_path / 'still.png'
  Image.fromarray(pixels).save(file, exif=exif)
  frames = media.load_frames(Item('a', image=str(file)), 3, 24)
  for frame in frames:
    np.testing.assert_array_equal(frame, np.rot90(pixels, -1))


def test_scan_says_what_cannot_be_used_and_why():
  videos = [Item('good', video=video(8)), Item('bad', video=b'text'),
            Item('single', video=video(1)), Item('empty', video=b'')]
  frames = media.Frames(videos, 16, 64)
  reasons = frames.scan(progress=False)
  assert reasons.keys() == {1, 3}
  assert 'not a readable video' in reasons[1]
  assert frames.scan([2, 3], progress=False) == {3: 'the file is empty'}


def stills(tmp_path, n=3, size=(28, 56)):
  """The same pictures as pixels, files, bytes and PIL images."""
  arrays = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
            for i in range(n)]
  files, encoded = [], []
  for i, array in enumerate(arrays):
    files.append(str(tmp_path / f'{i}.png'))
    Image.fromarray(array).save(files[-1])
    with open(files[-1], 'rb') as file:
      encoded.append(file.read())
  return {'pixels': arrays, 'files': files, 'bytes': encoded,
          'PIL images': [Image.fromarray(array) for array in arrays],
          'opened': [Image.open(file) for file in files],
          'mixed': [arrays[0], files[1], encoded[2]]}


def test_a_list_of_stills_is_one_video_however_they_are_given(tmp_path):
  given = stills(tmp_path)
  want = media.load_frames(Item('a', video=np.stack(given['pixels'])), 4, 32)
  for kind, frames in given.items():
    assert media.as_videos(frames, 'a') == (tuple(frames),), kind
    np.testing.assert_array_equal(
        media.load_frames(Item('a', video=tuple(frames)), 4, 32), want)
    assert media.frame_sizes(frames, [2, 0]) == (28, 56)
  # A list of lists is several, and one of videos is as many.
  several = media.as_videos([given['files'], given['pixels']], 'a')
  assert several == (tuple(given['files']), tuple(given['pixels']))
  clips = [video(2), str(tmp_path / 'missing.mp4')]
  assert media.as_videos(clips, 'a') == tuple(clips)
  with pytest.raises(media.MediaError, match='^a: it has 2 videos, want one'):
    media.load_frames(Item('a', video=several), 4, 32)


def test_frames_that_make_no_video_are_said(tmp_path):
  one, other = (np.zeros((28, width, 3), np.uint8) for width in (56, 84))
  file = str(tmp_path / '0.png')
  Image.fromarray(one).save(file)
  for frames, reason in (
      ([one, Image.fromarray(other)], 'two sizes, 56x28 .frame 0. and 84x28'),
      ([one, one.astype(np.float32)], 'frame 1.*got float32'),
      ([one, one[..., 0]], 'entry 0.*none .entry 1'),
      ([file, video(2)], 'entry 0.*none .entry 1'),
      ([file, str(tmp_path / 'gone.png')], 'gone.png: no such file')):
    with pytest.raises(media.MediaError, match=f'^a: .*{reason}') as error:
      media.load_frames(Item('a', video=(*frames, one)), 2, 32)
    assert error.value.name == 'a'
  with pytest.raises(media.MediaError, match='two sizes'):
    media.frame_sizes([one, other], [0, 1])
  assert media.frame_sizes([one, other], [1, 1]) == (28, 84)


@pytest.mark.parametrize('error', [MemoryError(), KeyError('x'), OSError('o')])
def test_whatever_fails_while_an_item_is_read_is_its_media_error(
    monkeypatch, error):
  def fail(frames, image_px):
    raise error
  monkeypatch.setattr(media, 'resize', fail)
  with pytest.raises(media.MediaError, match='^clip 7: cannot be read'):
    media.load_frames(Item('clip 7', video=video(2)), 2, 32)


def test_alpha_is_that_of_the_frames():
  rgba = np.zeros((8, 8, 4), np.uint8)
  file = io.BytesIO()
  Image.fromarray(rgba).save(file, 'png')
  items = [Item('a', image=file.getvalue()), Item('b', video=file.getvalue()),
           Item('c', video=(Image.fromarray(rgba),))]
  for alpha, level in (('white', 255), ('released', 0)):
    frames = media.Frames(items, 2, 8, alpha=alpha)
    for i in range(3):
      assert (frames[i] == level).all()
  with pytest.raises(ValueError, match='alpha is'):
    media.Frames(items, 2, 8, alpha='black')


def test_frames_hold_one_stored_file_at_a_time():
  class Store:
    """Counts the files that are alive."""
    read, held = 0, weakref.WeakSet()

    def __len__(self):
      return 3

    def __getitem__(self, index):
      item = Item(str(index), video=video(4))
      self.read += 1
      self.held.add(item)
      return item

  store = Store()
  frames = media.Frames(store, 2, 16)
  assert len(frames) == 3 and store.read == 0
  assert frames.scan(progress=False, n_threads=1) == {}
  gc.collect()
  assert store.read == 3 and len(store.held) <= 1


def test_frames_are_cached_within_their_bytes():
  videos = [Item(str(n), video=video(n)) for n in (8, 20, 30)]
  clip_bytes = 4 * 32 * 32 * 3
  frames = media.Frames(videos, 4, 32, cache_bytes=2 * clip_bytes)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    many = list(pool.map(lambda i: frames[i % 3], range(24)))
  for i, got in enumerate(many):
    np.testing.assert_array_equal(got, media.load_frames(videos[i % 3], 4, 32))
  assert sum(frames[i] is frames[i] for i in range(3)) == 2
  with pytest.raises(IndexError):
    frames[3]
