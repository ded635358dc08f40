"""Draws shapes-world scenes and encodes them as H.264 video or PNG."""
import io

import numpy as np

COLOURS = {  # in falling frequency
    'red': (225, 30, 35), 'blue': (45, 95, 255), 'green': (30, 175, 50),
    'yellow': (250, 230, 40), 'white': (255, 255, 255),
    'orange': (255, 135, 10), 'purple': (165, 50, 205),
    'cyan': (60, 225, 225), 'pink': (255, 140, 190)}
BACKGROUNDS = {'black': (8, 8, 8), 'grey': (105, 105, 105),
               'navy': (18, 20, 75), 'brown': (85, 50, 25),
               'dark green': (10, 60, 30), 'maroon': (85, 5, 35),
               'beige': (190, 170, 130), 'olive': (85, 85, 20),
               'teal': (0, 75, 85)}
RADIUS = {'small': 0.16, 'big': 0.24}  # of the image's width
FPS = 8


def _circle(x, y, r):
  return np.hypot(x, y) - r


def _square(x, y, r):
  return np.maximum(np.abs(x), np.abs(y)) - 0.86 * r


def _triangle(x, y, r):
  # Three half planes; y grows downwards, the tip is up.
  side = 0.8660254 * np.abs(x) - 0.5 * y
  return np.maximum(side, y) - 0.55 * r


def _cross(x, y, r):
  x, y = np.abs(x), np.abs(y)
  return np.minimum(np.maximum(x - r, y - 0.33 * r),
                    np.maximum(y - r, x - 0.33 * r))


# Signed distance to the outline in pixels, negative inside: (x, y, r) -> d.
SHAPES = {'circle': _circle, 'square': _square, 'triangle': _triangle,
          'cross': _cross}


def path(thing, n_frames):
  """Where an object is in each frame -> dict of [F] arrays.

  x, y: its centre and r: its radius, in widths of the image.
  """
  t = np.linspace(0, 1, n_frames)
  radius = RADIUS[thing['size']]
  x, y = np.full(n_frames, thing['x']), np.full(n_frames, thing['y'])
  r, motion = np.full(n_frames, radius), thing['motion']
  way = 0.5 + (t - 0.5) * (1 - 2 * radius) * thing['pace']
  if motion == 'right':
    x = way
  elif motion == 'left':
    x = 1 - way
  elif motion == 'down':
    y = way
  elif motion == 'up':
    y = 1 - way
  elif motion == 'grows':
    r = 0.06 + 0.2 * t
  elif motion == 'shrinks':
    r = 0.26 - 0.2 * t
  return {'x': x, 'y': y, 'r': r}


def draw(scene, image_px):
  """A scene -> its frames, uint8 [F, image_px, image_px, 3], anti-aliased.

  An object with a `start` comes after that share of the clip.
  """
  n_frames = scene['n_frames']
  frames = np.empty((n_frames, image_px, image_px, 3), np.float32)
  frames[:] = BACKGROUNDS[scene['background']]
  things = scene['objects']
  # Later ones cover earlier ones; 'behind' and 'in front of' say it of the
  # first, which passes the second.
  for thing in things if scene['relation'] == 'behind' else things[::-1]:
    _draw_object(frames, thing, image_px)
  return np.rint(frames).astype(np.uint8)


def _draw_object(frames, thing, image_px):
  """Composites one object on to float32 [F, H, W, 3], in place."""
  where = {k: v.astype(np.float32) for k, v in
           path(thing, len(frames)).items()}
  colour = np.array(COLOURS[thing['colour']], np.float32)
  reach = int(np.ceil(where['r'].max() * image_px * 1.45)) + 1
  offset = np.arange(2 * reach, dtype=np.int64)
  x0, y0 = (np.floor(where[k] * image_px).astype(np.int64) - reach
            for k in 'xy')
  columns, rows = x0[:, None] + offset, y0[:, None] + offset  # [F, W'], [F, H']
  x = (columns + np.float32(0.5) - where['x'][:, None] * image_px)[:, None]
  y = (rows + np.float32(0.5) - where['y'][:, None] * image_px)[:, :, None]
  x, y = x.astype(np.float32), y.astype(np.float32)
  r = where['r'][:, None, None] * image_px
  cover = np.clip(0.5 - SHAPES[thing['shape']](x, y, r), 0, 1)
  cover[:round(thing.get('start', 0.0) * len(frames))] = 0.0
  for f, patch in enumerate(cover):
    left, top = int(x0[f]), int(y0[f])
    box = (slice(max(top, 0), max(top + 2 * reach, 0)),
           slice(max(left, 0), max(left + 2 * reach, 0)))
    target = frames[f][box]
    cut = patch[max(-top, 0):, max(-left, 0):]
    cut = cut[:target.shape[0], :target.shape[1], None]
    target += cut * (colour - target)


def encode_video(frames):
  """uint8 [F, H, W, 3] -> the bytes of an H.264 mp4; H and W are even."""
  import av
  from av.video.reformatter import VideoReformatter
  av.logging.set_level(av.logging.PANIC)
  file, reformatter = io.BytesIO(), VideoReformatter()
  with av.open(file, 'w', format='mp4') as container:
    stream = container.add_stream('libx264', rate=FPS)
    stream.width, stream.height = frames.shape[2], frames.shape[1]
    stream.pix_fmt = 'yuv420p'
    # The same bytes at every call. With its macroblock tree, x264 gives other
    # ones from call to call on processors with AVX-512, in one thread too.
    stream.codec_context.thread_count = 1
    stream.options = {'crf': '20', 'preset': 'veryfast',
                      'x264-params': 'mbtree=0'}
    for frame in frames:
      frame = av.VideoFrame.from_ndarray(frame, format='rgb24')
      container.mux(stream.encode(
          reformatter.reformat(frame, format='yuv420p', threads=1)))
    container.mux(stream.encode())
  return file.getvalue()


def encode_image(frame):
  """uint8 [H, W, 3] -> the bytes of a PNG."""
  from PIL import Image
  file = io.BytesIO()
  Image.fromarray(frame).save(file, 'png')
  return file.getvalue()
