"""Frames are those that a player shows, turned as it turns them."""
import fractions
import io
import itertools
import pathlib
import tempfile

import av
import numpy as np
import pytest
from PIL import Image

from jaxret.data import media, videos
from jaxret.data.sources import MediaError
from tests.numbered_videos import (
  edited,
  number,
  numbered,
  numbers,
  video,
  with_matrix,
)

FILES = pathlib.Path(__file__).parent / 'files'
OPEN_GOP = {'x264-params': 'open-gop=1:bframes=3'}
KINDS = {
    'mp4 with B frames': {'options': {'bf': '3'}},
    'mp4, constant rate, all keyframes': {'keyframe_every': 1},
    'mp4, open groups': {'options': OPEN_GOP},
    'mp4, late start': {'pts': list(range(100, 160))},
    'mkv': {'form': 'matroska'},
    'transport stream, open groups': {'form': 'mpegts', 'options': OPEN_GOP},
    'avi, no time stamps': {'form': 'avi', 'codec': 'mpeg4',
                            'options': {'bf': '2', 'q': '2'}},
    'bare h264, no container': {'form': 'h264'}}


def read_frames(source, indices):
  """uint8 [F, H, W, 3], at the indices in any order."""
  return np.stack(videos.sample(source, lambda n_frames, fps: indices))


@pytest.mark.parametrize('kind', KINDS)
def test_frame_i_is_the_ith_shown(kind):
  data = video(60, **KINDS[kind])
  assert videos.probe(data).n_frames == 60
  everything = read_frames(data, range(60))
  assert [number(frame) for frame in everything] == list(range(60))
  for wanted in ([59], [0, 0, 30], [47, 3, 25, 3, 58], [11, 12, 13]):
    np.testing.assert_array_equal(
        read_frames(data, wanted), everything[wanted])


@pytest.mark.parametrize('form', ['mp4', 'matroska'])
def test_exact_on_a_variable_frame_rate(form):
  pts = np.cumsum(np.random.default_rng(0).integers(1, 40, 60)).tolist()
  data = video(60, form, pts=pts, options={'bf': '2'})
  frames = read_frames(data, [0, 7, 31, 30, 58])
  assert [number(frame) for frame in frames] == [0, 7, 31, 30, 58]


def test_a_path_reads_as_the_bytes_do(tmp_path):
  data = video(20)
  file = tmp_path / 'clip.mp4'
  file.write_bytes(data)
  for source in (file, str(file)):
    assert videos.probe(source) == videos.probe(data)
    np.testing.assert_array_equal(read_frames(source, [3, 17]),
                                  read_frames(data, [3, 17]))


@pytest.mark.parametrize('form', ['mp4', 'mov', 'matroska'])
@pytest.mark.parametrize('rotation', [90, -90, 180])
def test_rotation_metadata_is_applied(rotation, form):
  plain = read_frames(video(6, form), [5])[0]
  data = video(6, form, rotation=rotation)
  # np.rot90 turns counter-clockwise, as the display matrix is read.
  want = np.rot90(plain, videos.probe(data).rotation // 90)
  np.testing.assert_array_equal(read_frames(data, [5])[0], want)
  assert abs(videos.probe(data).rotation) == abs(rotation)
  info = videos.probe(data)
  assert (info.height, info.width) == want.shape[:2]


# What FFmpeg's own program gives for each, too: -fps_mode passthrough.
EDITS = {
    'cut at a keyframe': ([(25, 12)], [range(12, 37)]),
    'cut between keyframes': ([(20, 17)], [range(17, 37)]),
    # The frame that began before it is left out.
    'cut within a frame': ([(24, 7.5)], [range(8, 32)]),
    'the end cut off': ([(25, 0)], [range(25)]),
    'to the end and on': ([(50, 29)], [range(29, 60)]),
    'a pause first': ([(12, None), (60, 0)], [range(60)]),
    'a pause, then a cut': ([(12, None), (30, 20)], [range(20, 50)]),
    'two parts': ([(10, 5), (10, 40)], [range(5, 15), range(40, 50)]),
    'three, in another order': (
        [(10, 30), (10, 3), (5, 50)],
        [range(30, 40), range(3, 13), range(50, 55)]),
    'one part twice': ([(10, 5), (10, 5)], [range(5, 15), range(5, 15)])}


@pytest.mark.parametrize('form', ['mp4', 'mov'])
@pytest.mark.parametrize('coding', [
    {}, {'keyframe_every': 1}, {'options': {'bf': '3'}},
    {'options': OPEN_GOP}], ids=['IP', 'I', 'B', 'open groups'])
def test_an_edit_list_gives_what_a_player_shows(form, coding):
  whole = video(60, form, **coding)
  for name, (edits, parts) in EDITS.items():
    data, want = edited(whole, edits), [*itertools.chain(*parts)]
    assert numbers(data) == want, name
    info = videos.probe(data)
    assert (info.n_frames, info.fps) == (len(want), 25), name
    some = [len(want) - 1, 0, len(want) // 2, 0, len(want) // 2 + 1]
    assert numbers(data, some) == [want[i] for i in some], name


def test_a_clip_that_a_phone_trimmed_is_not_truncated():
  info = videos.probe(str(FILES / 'trimmed.mp4'))
  with av.open(str(FILES / 'trimmed.mp4')) as file:
    assert file.streams.video[0].frames == 30  # says its header
  assert (info.n_frames, info.fps) == (12, 10)


def test_an_edit_list_that_shows_nothing_is_said():
  with pytest.raises(MediaError, match='no frame in its video stream'):
    videos.probe(edited(video(10), [(0, 3)]))


def test_what_an_edit_list_leaves_must_be_there():
  data = video(60, container_options={'movflags': 'faststart'})
  with pytest.raises(MediaError, match='truncated: it holds 42 of 60 frames'):
    videos.probe(data[:-500])
  # A recording in fragments ends with the last that was written.
  data = video(60, container_options={'movflags': 'frag_keyframe+empty_moov'})
  written = data[:data.rindex(b'moof') - 4]
  assert numbers(written) == list(range(videos.probe(written).n_frames))
  assert videos.probe(written).n_frames in range(30, 60)


# The matrix, and the picture [H, W, 3] that a player makes with it.
TURNS = {
    'as it is': ((1, 0, 0, 1), lambda x: x),
    'left to right': ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    'upside down': ((1, 0, 0, -1), lambda x: x[::-1]),
    'half a turn': ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
    'about the diagonal': ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    'a quarter clockwise': ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    'a quarter back': ((0, -1, 1, 0), lambda x: np.rot90(x)),
    'about the other diagonal': (
        (0, -1, -1, 0), lambda x: x[::-1, ::-1].swapaxes(0, 1))}


@pytest.mark.parametrize('turn', TURNS)
def test_a_display_matrix_is_applied_mirrored_or_not(turn):
  plain = video(6)
  matrix, shown = TURNS[turn]
  data = with_matrix(plain, *matrix)
  want = shown(read_frames(plain, [3])[0])
  np.testing.assert_array_equal(read_frames(data, [3])[0], want)
  info = videos.probe(data)
  assert (info.height, info.width) == want.shape[:2]
  first = read_frames(plain, [3])[0]
  first = first[:, ::-1] if info.mirrored else first
  np.testing.assert_array_equal(np.rot90(first, info.rotation // 90), want)


@pytest.mark.parametrize('form', ['matroska', 'avi', 'mov'])
def test_motion_jpeg_of_a_camera_is_turned_as_its_exif_says(form):
  """FFmpeg gives EXIF as side data, of a kind that PyAV has no name for."""
  stored = np.kron(np.random.default_rng(0).integers(0, 256, (3, 4, 3)),
                   np.ones((16, 16, 1))).astype(np.uint8)
  for orientation, shown in ((2, stored[:, ::-1]), (6, np.rot90(stored, -1))):
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(jpeg, 'jpeg', exif=exif, quality=98,
                                 subsampling=0)
    with tempfile.NamedTemporaryFile() as file:
      with av.open(file.name, 'w', format=form) as container:
        stream = container.add_stream('mjpeg', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuvj444p'
        packet = av.Packet(jpeg.getvalue())
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        packet.time_base, packet.is_keyframe = fractions.Fraction(1, 25), True
        container.mux(packet)
      frame, = videos.sample(file.name, lambda n_frames, fps: [0])
    assert frame.shape == shown.shape
    assert np.abs(frame.astype(int) - shown).mean() < 12


def test_transparent_frames_lie_on_white():
  rgba = np.zeros((32, 48, 4), np.uint8)
  rgba[..., 0], rgba[:, :16, 3], rgba[:, 16:32, 3] = 200, 255, 102
  with tempfile.NamedTemporaryFile(suffix='.mov') as file:
    with av.open(file.name, 'w') as container:
      stream = container.add_stream('png', rate=25)
      stream.width, stream.height, stream.pix_fmt = 48, 32, 'rgba'
      container.mux(stream.encode(
          av.VideoFrame.from_ndarray(rgba, format='rgba')))
      container.mux(stream.encode())
    data = file.read()
  frame = read_frames(data, [0])[0]
  # 0.4 of the colour and 0.6 of white, by hand.
  for x, colour in ((8, (200, 0, 0)), (24, (233, 153, 153)),
                    (40, (255, 255, 255))):
    np.testing.assert_array_equal(frame[:, x], [colour] * 32)
  released = videos.sample(data, lambda n, fps: [0], 'released')[0]
  np.testing.assert_array_equal(released, rgba[..., :3])


@pytest.mark.parametrize('name, text', [
    ('list.m3u8', '#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n'),
    ('list.ffconcat', "ffconcat version 1.0\nfile '{}'\n"),
    ('list.mp4', "ffconcat version 1.0\nfile '{}'\n"),
    ('list.sdp', 'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\n'
     't=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n')])
def test_a_list_of_other_files_is_not_followed(tmp_path, name, text):
  (tmp_path / 'other.mp4').write_bytes(video(5))
  file = tmp_path / name
  for target in ('other.mp4', tmp_path / 'other.mp4'):
    file.write_text(text.format(target))
    for source in (str(file), file.read_bytes()):
      with pytest.raises(MediaError, match='not a readable video'):
        videos.probe(source)


@pytest.mark.parametrize('name', ['a:b.mp4', 'http:x.mp4', 'a%03d.mp4', '-'])
def test_any_name_is_the_name_of_a_file(tmp_path, monkeypatch, name):
  (tmp_path / name).write_bytes(video(5))
  monkeypatch.chdir(tmp_path)
  assert numbers(name) == numbers(str(tmp_path / name)) == [0, 1, 2, 3, 4]


def test_one_jpeg_is_a_still_and_several_are_a_video(tmp_path):
  file = tmp_path / 'x.jpg'
  Image.fromarray(read_frames(video(1), [0])[0]).save(file)
  data = video(6, 'mjpeg', 'mjpeg', options={'strict': 'unofficial'})
  assert data.startswith(b'\xff\xd8\xff')
  assert videos.is_still(str(file)) and not videos.is_still(data)
  assert media.probe(str(file)).n_frames == 1
  assert media.probe(data).n_frames == 6


def test_a_coding_that_the_first_packet_alone_tells():
  """Lossless 4:4:4 of an x264 before build 151, which FFmpeg reads otherwise.

  The witness is the whole video, decoded from its start.
  """
  drawn = np.random.default_rng(0).integers(0, 64, (32, 128, 3), np.uint8)
  with tempfile.NamedTemporaryFile(suffix='.mp4') as file:
    with av.open(file.name, 'w') as container:
      stream = container.add_stream('libx264', rate=25)
      stream.width, stream.height, stream.pix_fmt = 128, 32, 'yuv444p'
      stream.options, stream.codec_context.gop_size = {'qp': '0'}, 12
      for i in range(40):
        shown = np.roll(drawn, i, 1) + numbered(i) // 2
        container.mux(stream.encode(av.VideoFrame.from_ndarray(
            shown, format='rgb24')))
      container.mux(stream.encode())
    new = file.read()
  build = new[new.find(b'core '):][:8]
  for data in (new, new.replace(build, b'core 140')):
    whole = read_frames(data, range(40))
    for i in (11, 13, 20, 39):
      np.testing.assert_array_equal(read_frames(data, [i])[0], whole[i])
