"""Videos whose frames carry their number, and MP4 headers as phones write them.

They are made by FFmpeg, and boxes of MP4 that it does not write are put in.
"""
import struct
import tempfile

import av
import numpy as np

from jaxret.data import videos

# Each frame carries its number as eight black or white blocks, which survive
# lossy coding: the witness needs no other decoder.
BLOCK = 16


def numbered(i):
  bits = [(i >> k) & 1 for k in range(8)]
  row = np.repeat(np.array(bits, np.uint8) * 255, BLOCK)
  return np.broadcast_to(row[None, :, None], (32, 8 * BLOCK, 3)).copy()


def number(frame):
  bits = frame[frame.shape[0] // 2, BLOCK // 2::BLOCK, 1] > 127
  return int(sum(int(bit) << k for k, bit in enumerate(bits)))


def video(n_frames, form='mp4', codec='libx264', pts=None, options=None,
          rotation=None, keyframe_every=12, container_options=None):
  """The bytes of a video of numbered frames."""
  with tempfile.NamedTemporaryFile() as file:
    _write(file.name, form, codec, n_frames, pts, options, rotation,
           keyframe_every, container_options)
    return file.read()


def _write(path, form, codec, n_frames, pts, options, rotation,
           keyframe_every, container_options):
  with av.open(path, 'w', format=form,
               options=container_options or {}) as container:
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height = 8 * BLOCK, 32
    stream.pix_fmt, stream.options = 'yuv420p', options or {}
    stream.codec_context.gop_size = keyframe_every
    if rotation is not None:
      stream.set_display_rotation(rotation)
    for i in range(n_frames):
      frame = av.VideoFrame.from_ndarray(numbered(i), format='rgb24')
      frame.pts = i if pts is None else pts[i]
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def numbers(source, indices=None):
  """[number] of the frames that are shown, all or those at `indices`."""
  return [number(frame) for frame in videos.sample(
      source, lambda n_frames, fps: (
          range(n_frames) if indices is None else indices))]


def edited(data, edits):
  """An MP4 with another edit list.

  edits: (how many frames are shown, the frame that they start at), None for an
  edit that shows nothing, a fraction for a time between two frames.
  """
  rate, ticks_per_frame = 1000 // 25, _ticks_per_frame(data)
  first = _first_ticks(data)  # B frames shift the time of all
  rows = b''.join(struct.pack(
      '>IiI', round(n * rate),
      -1 if start is None else first + round(start * ticks_per_frame), 1 << 16)
                  for n, start in edits)
  elst = _box(b'elst', struct.pack('>II', 0, len(edits)) + rows)
  return _replaced(data, _box(b'edts', elst))


def with_matrix(data, a, b, c, d):
  """An MP4 with the display matrix x' = a x + c y, y' = b x + d y."""
  data = bytearray(data)
  start, _ = _find(data, b'moov', b'trak', b'tkhd')
  struct.pack_into('>9i', data, start + 48, a << 16, b << 16, 0, c << 16,
                   d << 16, 0, 0, 0, 1 << 30)
  return bytes(data)


def _box(name, content):
  return struct.pack('>I4s', len(content) + 8, name) + content


def _find(data, *names, start=0, end=None):
  """(start, size) of a box of MP4, (where it could stand, 0) without it."""
  end = len(data) if end is None else end
  while start < end:
    size, name = struct.unpack('>I4s', data[start:start + 8])
    if name == names[0]:
      return (start, size) if len(names) == 1 else _find(
          data, *names[1:], start=start + 8, end=start + size)
    start += size
  return start, 0


def _ticks_per_frame(data):
  start, _ = _find(data, b'moov', b'trak', b'mdia', b'mdhd')
  return struct.unpack('>I', data[start + 20:start + 24])[0] // 25


def _first_ticks(data):
  start, size = _find(data, b'moov', b'trak', b'edts', b'elst')
  return struct.unpack('>i', data[start + 20:start + 24])[0] if size else 0


def _replaced(data, edts):
  """`data` with other edits; its frames must lie before its header."""
  data = bytearray(data)
  start, size = _find(data, b'moov', b'trak', b'edts')
  if not size:
    start = _find(data, b'moov', b'trak', b'mdia')[0]
  for names in (b'moov', b'trak'), (b'moov',):
    place, length = _find(data, *names)
    struct.pack_into('>I', data, place, length + len(edts) - size)
  data[start:start + size] = edts
  return bytes(data)
