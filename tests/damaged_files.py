"""Small images and videos of many formats, and ways to damage them.

Run as a program it reads thousands of damaged ones and prints a JSON object:
`python -m tests.damaged_files N_PER_FILE`. A crash is then that of a process
of its own.
"""
import collections
import faulthandler
import io
import json
import sys
import time
import warnings

import numpy as np
from PIL import Image

from jaxret.data import media
from jaxret.data.types import Item
from tests.numbered_videos import edited, video

LONGEST_S = 120  # then the item hangs, and the process is ended
FRAME_PX = 24


def images():
  """{name: bytes} of stills and animations."""
  random = np.random.default_rng(0)
  rgb = np.kron(random.integers(0, 256, (4, 5, 3), np.uint8),
                np.ones((6, 6, 1), np.uint8))
  rgba = np.concatenate([rgb, rgb[..., :1]], 2)
  grey, deep = rgb[..., 0], rgb[..., 0].astype(np.uint16) * 257
  exif = Image.Exif()
  exif[0x0112], exif[0x010f] = 6, 'a camera'
  moving = {'save_all': True, 'duration': 40, 'append_images': [
      Image.fromarray(np.roll(rgb, i, 1)) for i in range(3)]}
  return {name: _encoded(pixels, form, **options)
          for name, (form, pixels, options) in {
      'png': ('png', rgb, {'exif': exif}), 'png alpha': ('png', rgba, {}),
      'png 16 bits': ('png', deep, {}), 'apng': ('png', rgb, moving),
      'jpeg': ('jpeg', rgb, {'exif': exif}),
      'jpeg in steps': ('jpeg', rgb, {'progressive': True}),
      'webp': ('webp', rgb, {'exif': exif}),
      'webp alpha': ('webp', rgba, {'lossless': True}),
      'webp moving': ('webp', rgb, moving), 'gif': ('gif', grey, {}),
      'gif moving': ('gif', rgb, moving), 'tiff': ('tiff', rgb, {'exif': exif}),
      'tiff lzw': ('tiff', rgb, {'compression': 'tiff_lzw'}),
      'tiff deflate': ('tiff', deep, {'compression': 'tiff_adobe_deflate'}),
      'tiff jpeg': ('tiff', rgb, {'compression': 'jpeg'}),
      'bmp': ('bmp', rgb, {}), 'avif': ('avif', rgba, {'exif': exif}),
      'avif moving': ('avif', rgb, moving), 'ppm': ('ppm', rgb, {}),
      'jpeg 2000': ('jpeg2000', rgb, {}), 'ico': ('ico', rgb, {}),
      'tga': ('tga', rgb, {'compression': 'tga_rle'})}.items()}


def _encoded(pixels, form, **options):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, form, **options)
  return file.getvalue()


def videos():
  """{name: bytes} of clips of eight frames."""
  b = {'options': {'bf': '2'}}
  return {
      'mp4': video(8, **b), 'mov': video(8, 'mov', **b),
      'mp4 edited': edited(video(8, **b), [(2, None), (5, 2)]),
      'mp4 turned': video(8, rotation=90),
      'mp4 fast start': video(8, container_options={'movflags': 'faststart'}),
      'mp4 in fragments': video(8, keyframe_every=4, container_options={
          'movflags': 'frag_keyframe+empty_moov'}),
      'mp4 mpeg4': video(8, codec='mpeg4'), 'mkv': video(8, 'matroska', **b),
      'webm': video(8, 'webm', 'libvpx-vp9'),
      'webm vp8': video(8, 'webm', 'libvpx'),
      'avi': video(8, 'avi', 'mpeg4'),
      'avi mjpeg': video(8, 'avi', 'mjpeg', options={'strict': 'unofficial'}),
      'ts': video(8, 'mpegts', **b), 'flv': video(8, 'flv', **b),
      'h264': video(8, 'h264'), 'mpeg': video(8, 'mpeg', 'mpeg1video'),
      'ogg': video(8, 'matroska', 'mpeg2video')}


def damaged(data, random):
  """`data` with one of seven kinds of damage."""
  data, size = bytearray(data), len(data)
  place = int(random.integers(size))
  kind = int(random.integers(7))
  if kind == 0:  # the end is missing
    del data[place:]
  elif kind == 1:  # some bytes are others
    for i in random.integers(0, size, int(random.integers(1, 20))):
      data[i] = random.integers(256)
  elif kind == 2:  # single bits, in the header
    for i in random.integers(0, min(size, 256), int(random.integers(1, 6))):
      data[i] ^= 1 << int(random.integers(8))
  elif kind == 3:  # a number of the header is the largest, the least or zero
    place = int(random.integers(min(size, 600)))
    width = int(random.choice([1, 2, 4, 8]))
    data[place:place + width] = width * [int(random.choice([0, 127, 128, 255]))]
  elif kind == 4:  # a piece is missing
    del data[place:place + int(random.integers(1, 64))]
  elif kind == 5:  # a piece is there twice
    data[place:place] = data[place:place + int(random.integers(1, 64))]
  else:  # noise to the end
    data[place:] = random.bytes(size - place)
  return bytes(data)


def read_all(n_per_file, seed=0):
  """Counts of what becomes of damaged files, and the slowest of them.

  Each is read as an image or as a video, and its header alone; a video also as
  an image and the other way round now and then.
  """
  counts, slowest, foreign = collections.Counter(), (0, ''), []
  for kind, files in (('image', images()), ('video', videos())):
    for name, whole in files.items():
      item = Item(name, **{kind: whole})
      assert media.load_frames(item, 4, FRAME_PX).shape[0] == 4, name
      for i in range(n_per_file):
        random = np.random.default_rng((seed, i, len(name), len(whole)))
        data = damaged(whole, random)
        as_kind = kind if i % 8 else {'image': 'video'}.get(kind, 'image')
        faulthandler.dump_traceback_later(LONGEST_S, exit=True)
        start = time.perf_counter()
        for what, read in _ways(data, as_kind, name).items():
          try:
            read()
            counts[what, 'read'] += 1
          except media.MediaError as error:
            assert '\n' not in str(error) and len(str(error)) < 2000
            counts[what, 'MediaError'] += 1
          except Exception as error:  # what the test looks for
            foreign.append(f'{name} {i} {what}: {error!r}')
        slowest = max(slowest, (time.perf_counter() - start, f'{name} {i}'))
  faulthandler.cancel_dump_traceback_later()
  return {'files': sum(n for (what, _), n in counts.items()
                       if what != 'header') + len(
                           [line for line in foreign if 'header' not in line]),
          'foreign': foreign, 'slowest': slowest,
          **{' '.join(key): n for key, n in sorted(counts.items())}}


def _ways(data, kind, name):
  header = (lambda: media.read_image(data, size_only=True)
            ) if kind == 'image' else (lambda: media.probe(data))
  return {kind: lambda: media.load_frames(
      Item(name, **{kind: data}), 4, FRAME_PX), 'header': header}


if __name__ == '__main__':
  warnings.simplefilter('ignore')
  faulthandler.enable()
  print(json.dumps(read_all(int(sys.argv[1])), indent=1))
