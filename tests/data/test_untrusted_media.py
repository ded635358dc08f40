"""Media of strangers reach no other file, no program and no network.

Whatever a file says it is, it is opened as what it is named or given for: an
image or a video of its own bytes. A server on this machine counts requests, the
system who opens a file beside; both must stay at zero.
"""
import io
import os
import pathlib
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxret.data import media, sources
from jaxret.data.types import Item
from tests import watched
from tests.numbered_videos import numbers, video

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='watches files by inotify')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """(folder, secret video elsewhere, its Watch, address, what was asked)."""
  root = tmp_path_factory.mktemp('strangers')
  secret = root / 'elsewhere' / 'secret.mp4'
  secret.parent.mkdir()
  (root / 'own').mkdir()
  secret.write_bytes(video(3))
  (root / 'own' / 'secret.mp4').write_bytes(video(3))
  watch = watched.Watch(secret)
  secret.read_bytes()
  assert watch.count() > 0  # it does see who reads
  with watched.server() as (address, asked):
    yield root / 'own', secret, watch, address, asked
  watch.close()


HLS = ('#EXTM3U\n#EXT-X-TARGETDURATION:10\n{key}#EXTINF:10.0,\n{what}\n'
       '#EXT-X-ENDLIST\n')
DASH = ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        'type="static" mediaPresentationDuration="PT10S" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" '
        'bandwidth="1"><BaseURL>{what}</BaseURL></Representation>'
        '</AdaptationSet></Period></MPD>')
SDP = ('v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n'
       'm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n')
KEY = '#EXT-X-KEY:METHOD=AES-128,URI="{http}/key"\n'
SVG = ('<svg xmlns="http://www.w3.org/2000/svg" '
       'xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">'
       '<image width="9" height="9" xlink:href="{what}"/></svg>')
PLAYLISTS = {
    'hls': HLS, 'hls with a key': HLS, 'concat': 'ffconcat version 1.0\n'
    "file '{what}'\n", 'dash': DASH, 'sdp': SDP,
    'pls': '[playlist]\nFile1={what}\nNumberOfEntries=1\n', 'svg': SVG,
    'image list': '{what}\n'}


@pytest.mark.parametrize('ending', ['mp4', 'm3u8', 'png'])
@pytest.mark.parametrize('what', ['http', 'file', 'path', 'sibling'])
@pytest.mark.parametrize('form', PLAYLISTS)
def test_playlists_reach_nothing(place, form, what, ending):
  folder, secret, watch, address, asked = place
  meant = {'http': f'{address}/x.mp4', 'file': f'file://{secret}',
           'path': str(secret), 'sibling': 'secret.mp4'}[what]
  key = KEY.format(http=address) if form == 'hls with a key' else ''
  content = PLAYLISTS[form].format(
      what=meant, key=key, port=address.rpartition(':')[2])
  path = folder / f'{form}.{ending}'
  path.write_text(content)
  sibling = watched.Watch(folder / 'secret.mp4')
  for given in (str(path), content.encode()):
    for kind in ('video', 'image'):
      with pytest.raises(media.MediaError, match='not a readable') as caught:
        media.load_frames(Item('x', **{kind: given}), 2, 16)
      assert '\n' not in str(caught.value)
  assert (asked, watch.count(), sibling.count()) == ([], 0, 0)
  sibling.close()


@pytest.mark.parametrize('name', [
    '{http}/x.mp4', 'tcp://{host}', 'concat:{secret}', 'file:{secret}',
    'subfile,,start,0,end,0,,:{secret}', 'cache:{secret}', 'pipe:0',
    'crypto:{secret}', 'data:video/mp4;base64,AAAA', 'async:file:{secret}'])
def test_names_are_paths_and_no_addresses(place, name):
  folder, secret, watch, address, asked = place
  name = name.format(http=address, host=address[7:], secret=secret)
  for kind in ('video', 'image'):
    with pytest.raises(media.MediaError, match='no such file'):
      media.load_frames(Item('x', **{kind: name}), 2, 16)
  assert (asked, watch.count()) == ([], 0)


def box(name, content):
  return struct.pack('>I4s', 8 + len(content), name) + content


@pytest.mark.parametrize('kind', [b'url ', b'alis', b'rsrc'])
@pytest.mark.parametrize('where', ['http', 'path'])
def test_a_movie_whose_data_lie_elsewhere_reaches_nothing(place, kind, where):
  """QuickTime's data reference: the frames are in another file, or a URL."""
  folder, secret, watch, address, asked = place
  given = (f'{address}/dref' if where == 'http' else str(secret)).encode()
  raw = video(3)
  start = raw.find(b'dref') - 4
  old = raw[start:start + struct.unpack('>I', raw[start:start + 4])[0]]
  new = box(b'dref', struct.pack('>II', 0, 1) + box(
      kind, struct.pack('>I', 0) + given + b'\0'))
  made = raw.replace(old, new)
  for name in (b'dinf', b'minf', b'mdia', b'trak', b'moov'):
    at = made.find(name) - 4
    size = struct.unpack('>I', made[at:at + 4])[0] + len(new) - len(old)
    made = made[:at] + struct.pack('>I', size) + made[at + 4:]
  path = folder / 'reference.mov'
  path.write_bytes(made)
  for source in (str(path), made):
    try:  # its own bytes, then, as they lie in the file
      assert len(numbers(source)) == 3
    except media.MediaError:
      pass
  assert (asked, watch.count()) == ([], 0)


EPS = ('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n'
       '(%pipe%touch {pwned}) (w) file\nshowpage\n')


def test_no_program_is_started(place, tmp_path, monkeypatch):
  """Pillow has Ghostscript draw EPS; here a program of that name tells."""
  program = tmp_path / 'gs'
  program.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\n')
  program.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  content = EPS.format(pwned=tmp_path / 'ran')
  for ending in ('eps', 'png', 'mp4'):
    path = tmp_path / f'x.{ending}'
    path.write_text(content)
    for kind in ('image', 'video'):
      for given in (str(path), content.encode()):
        with pytest.raises(media.MediaError, match='not a readable'):
          media.load_frames(Item('x', **{kind: given}), 2, 16)
  assert not (tmp_path / 'ran').exists()


def png_header(width, height):
  """A PNG that says its size, and of whose pixels there is one line."""
  def chunk(name, data):
    return (struct.pack('>I', len(data)) + name + data
            + struct.pack('>I', zlib.crc32(name + data)))
  return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
      '>IIBBBBB', width, height, 8, 0, 0, 0, 0))
          + chunk(b'IDAT', zlib.compress(bytes(1 + width)))
          + chunk(b'IEND', b''))


@pytest.fixture
def limit():
  """sources.limit_pixels, for one test."""
  pillows = Image.MAX_IMAGE_PIXELS
  yield sources.limit_pixels
  sources.limit_pixels(sources.MOST_PIXELS)
  Image.MAX_IMAGE_PIXELS = pillows


@pytest.mark.parametrize('width, height', [
    (13300, 13300), (9460, 9460), (30000, 30000),
    pytest.param(2 ** 31 - 1, 1, marks=pytest.mark.slow)])
def test_more_pixels_than_the_limit_are_refused_from_the_header(
    recwarn, tmp_path, width, height):
  path = tmp_path / 'bomb.png'
  path.write_bytes(png_header(width, height))
  for read in (media.read_image, media.probe,
               lambda source: media.read_image(source, size_only=True),
               lambda source: media.load_frames(Item('x', image=source), 1, 8)):
    with pytest.raises(media.MediaError) as caught:
      read(str(path))
    # Pillow stops beyond twice its own limit, and tells no sides.
    size = (f'{width}x{height}' if width * height < 2 * 89478485
            else f'({width * height}')
    assert f'{size} pixels, want at most 89478485' in str(caught.value)
  with pytest.raises(media.MediaError, match='89478485'):
    with Image.open(io.BytesIO(png_header(13300, 13300))) as image:
      media.read_still(image, 'a PIL image')
  assert not [one for one in recwarn if one.filename.endswith('images.py')]


def test_the_limit_can_be_lowered_and_raised(limit):
  data = {}
  for form, size in (('png', (40, 30)), ('gif', (50, 20))):
    file = io.BytesIO()
    Image.new('RGB', size).save(file, form)
    data[form] = file.getvalue()
  limit(999)
  for one in data.values():
    with pytest.raises(media.MediaError, match='want at most 999'):
      media.read_image(one)
  limit(1000)
  assert media.read_image(data['gif']).shape == (20, 50, 3)
  limit(200_000_000)  # beyond what Pillow refuses by itself
  assert media.read_image(png_header(13500, 13500), size_only=True) == (
      13500, 13500)


def test_frames_of_more_pixels_are_refused_before_they_are_decoded(limit):
  clip = video(4)  # of 128 x 32
  limit(128 * 32)
  assert numbers(clip) == [0, 1, 2, 3]
  limit(128 * 32 - 1)
  for read in (media.probe, numbers):
    with pytest.raises(media.MediaError, match='^video bytes: .*128x32 pixels, '
                       'want at most 4095'):
      read(clip)


def test_a_stream_that_grows_is_refused_where_it_does(limit):
  """The first frame is small; FFmpeg is told the limit as well."""
  large = io.BytesIO()
  import av
  with av.open(large, 'w', format='h264') as container:
    stream = container.add_stream('libx264', rate=25)
    stream.width, stream.height, stream.pix_fmt = 320, 240, 'yuv420p'
    frame = av.VideoFrame.from_ndarray(
        np.zeros((240, 320, 3), np.uint8), format='rgb24')
    for _ in range(8):
      frame.pts = None
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  grown = video(4, 'h264') + large.getvalue()
  every = {'choose': lambda n_frames, fps: range(n_frames)}
  shapes = {frame.shape for frame in media.sample_frames(grown, **every)}
  assert shapes == {(32, 128, 3), (240, 320, 3)}
  limit(128 * 32)
  with pytest.raises(media.MediaError, match='decod'):
    media.sample_frames(grown, **every)


def test_the_limit_is_a_field_of_a_config(limit, tmp_path):
  from jaxret import main, run
  config, _ = main.parse(['jaxret', '--config=configs/blim.py',
                          '--config.data.max_pixels=1234'])
  run.open_workdir(config, tmp_path)
  assert sources.most_pixels() == 1234
  with pytest.raises(ValueError, match='data.max_pixels is 0, want 1 or more'):
    config.data.max_pixels = 0
    run.open_workdir(config, tmp_path)


def test_links_out_of_a_folder_are_the_users_own(place, tmp_path):
  """A link is followed, as docs/security.md says; what is no medium fails."""
  (tmp_path / 'link.mp4').symlink_to('/etc/passwd')
  with pytest.raises(media.MediaError, match='not a readable video'):
    media.probe(str(tmp_path / 'link.mp4'))


def test_devices_are_no_files():
  for device in ('/dev/zero', '/dev/stdin', '/dev/null'):
    if pathlib.Path(device).exists():
      for read in (media.read_image, media.probe):
        with pytest.raises(media.MediaError, match='not a file|is empty|no s'):
          read(device)
