"""Still images and animations as they are shown, in eight bits.

Orientation, transparency and 16 bits are resolved here alike for files, bytes
and PIL images. What has no range that could be scaled is refused by name.
"""
import contextlib
import functools
import io
import os
import re
import threading
import warnings

import numpy as np

from jaxret.data import sources

# What Pillow may open: no format that starts a program or reads other files.
FORMATS = ('PNG', 'JPEG', 'GIF', 'WEBP', 'BMP', 'DIB', 'TIFF', 'AVIF', 'PPM',
           'JPEG2000', 'ICO', 'TGA', 'PCX', 'SGI', 'DDS', 'QOI')
ANIMATED = ('PNG', 'GIF', 'WEBP', 'AVIF')
STILL_FPS = 25.0  # of one image that is given as a video, as in FFmpeg
# 'released': as convert('RGB'), which UNITE, MM-Embed and LECCR call, gives
# it: the colours that lie hidden under what is transparent.
ALPHA = ('white', 'released')

_STARTS = ((b'\x89PNG\r\n\x1a\n', 'PNG'), (b'\xff\xd8\xff', 'JPEG'),
           (b'GIF8', 'GIF'), (b'BM', 'BMP'), (b'II*\0', 'TIFF'),
           (b'MM\0*', 'TIFF'))
_HEIF = {b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'}
_ORIENTATION = 0x0112  # EXIF's tag
_BITS, _PHOTOMETRIC = 258, 262  # TIFF's tags
# Of PIL images in memory, a few of which share one.
_LOADING = tuple(threading.Lock() for _ in range(64))


def check_alpha(alpha):
  """The value as it came; ValueError where it is none of ALPHA."""
  if alpha not in ALPHA:
    raise ValueError(f'alpha is {alpha!r}; want one of {", ".join(ALPHA)}')
  return alpha


def form_of(head):
  """Pillow's name of the format that a file of these first bytes is in.

  None for what is no image. head: bytes, 32 of them at least.
  """
  if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
    return 'WEBP'
  if head[4:8] == b'ftyp':
    end = min(int.from_bytes(head[:4], 'big'), len(head))
    brands = {head[8:12], *(head[i:i + 4] for i in range(16, end, 4))}
    if brands & {b'avif', b'avis'}:
      return 'AVIF'
    return 'HEIF' if head[8:12] in _HEIF else None
  return next((form for start, form in _STARTS if head.startswith(start)), None)


def read(source, size_only=False, alpha='white'):
  """A still image (a path or encoded bytes) as shown -> uint8 [H, W, 3].

  Of an animation the first frame. size_only: its (height, width) instead, from
  the header. alpha: what becomes of transparent pixels, see `shown`.
  Errors: MediaError.
  """
  with _opened(source) as image:
    if size_only:
      return _size(image)
    return shown(image, alpha)


def of_pil(image, name, alpha='white'):
  """A PIL image -> uint8 [H, W, 3], as the file that it came from.

  name: what a MediaError says it is.
  """
  with sources.blamed(name, 'not a readable image'):
    # Pillow decodes at first use, and not for two threads at a time.
    with _LOADING[id(image) // 64 % len(_LOADING)]:
      sources.check_pixels(*image.size)
      image.load()
    return shown(image, alpha)


def size_of_pil(image, name):
  """(height, width) of a PIL image as shown."""
  with sources.blamed(name, 'not a readable image'):
    return _size(image)


def is_pil(source):
  return hasattr(source, 'convert') and hasattr(source, 'getbands')


def sample(source, choose, alpha='white'):
  """As videos.sample: frames of an animation, or the one of a still."""
  with _opened(source) as image:
    first, n_frames, fps = _timing(image)
    indices = [int(i) for i in choose(n_frames, fps)]
    found = {}
    for i in sorted(set(indices)):
      if not 0 <= i < n_frames:
        raise ValueError(f'frame {i} asked of {n_frames}')
      if n_frames > 1:
        image.seek(first + i)
      found[i] = shown(image, alpha)
    return [found[i] for i in indices]


def probe(source):
  """(n_frames, fps, (height, width)) of an animation or a still."""
  with _opened(source) as image:
    _, n_frames, fps = _timing(image)
    size = _size(image)
    shown(image)  # a first frame, as videos.probe
    return n_frames, fps, size


def is_still(source):
  """Whether a source is an image that does not move.

  A path, bytes, PIL image or pixels [H, W, 3]; damage is found on reading.
  """
  if is_pil(source):
    return True
  if isinstance(source, np.ndarray):
    return source.ndim == 3
  if not isinstance(source, (str, bytes, os.PathLike)):
    return False
  form = form_of(sources.head(source))
  if form not in ANIMATED:
    return form is not None
  try:
    with _opened(source) as image:
      return getattr(image, 'n_frames', 1) == 1
  except sources.MediaError:
    return True


def shown(image, alpha='white'):
  """A PIL image, turned as its EXIF says -> uint8 [H, W, 3].

  alpha: 'white' lays it on white, 'released' drops what hides colours.
  16 bits are scaled to 8. Errors: ValueError that names a mode whose range is
  not known.
  """
  from PIL import Image, ImageOps
  sources.check_pixels(*image.size)
  given, image = image, ImageOps.exif_transpose(image)
  if image.mode.startswith('I;16') or image.mode in ('I', 'F'):
    image = _in_8_bits(image, given.format, getattr(given, 'tag_v2', {}))
  elif image.mode == 'LAB':
    image = _from_lab(image)
  elif image.mode == 'La':
    image = image.convert('LA')
  if alpha == 'white' and image.has_transparency_data:
    white = Image.new('RGBA', image.size, (255, 255, 255, 255))
    image = Image.alpha_composite(white, image.convert('RGBA'))
  return np.array(image.convert('RGB'))


@contextlib.contextmanager
def _opened(source):
  """The PIL image of a path or of bytes; what it raises is a MediaError."""
  from PIL import Image
  source, name = (sources.checked(source, 'image'),
                  sources.name_of(source, 'image'))
  formats = FORMATS
  with sources.blamed(name, 'not a readable image'):
    if form_of(sources.head(source)) == 'HEIF':
      _register_heif(name)
      formats = ('HEIF',)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    Image.init()
    formats = [form for form in formats if form in Image.OPEN]
    with _of_allowed_size(file, formats) as image:
      yield image


def _of_allowed_size(file, formats):
  """Image.open, with our limit of pixels in place of Pillow's."""
  from PIL import Image
  _without_warning()
  pillows = Image.MAX_IMAGE_PIXELS
  if pillows is not None and sources.most_pixels() > pillows:
    Image.MAX_IMAGE_PIXELS = sources.most_pixels()
  try:
    image = Image.open(file, formats=formats)
  except Image.DecompressionBombError as error:  # beyond twice its own limit
    raise ValueError(
        f'{next(iter(re.findall("[0-9]+", str(error))), "too many")} pixels, '
        f'want at most {sources.most_pixels()}: make it smaller') from None
  try:
    sources.check_pixels(*image.size)
  except ValueError:
    image.close()
    raise
  return image


@functools.cache
def _without_warning():
  """What Pillow warns of is refused here."""
  from PIL import Image
  warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


def _register_heif(name):
  try:
    import pillow_heif
  except ImportError:
    raise sources.MediaError(
        name, "a HEIC image, which Pillow alone does not read: pip install "
        "-e '.[heif]', or convert it to JPEG") from None
  pillow_heif.register_heif_opener()


def _size(image):
  """(height, width) as shown, from the header."""
  from PIL import Image
  sources.check_pixels(*image.size)
  if image.format == 'TIFF':  # which Pillow turns itself
    return image.size[::-1]
  # A PNG's own getexif decodes the pixels, to look for more behind them.
  orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
  return image.size[::1 if orientation > 4 else -1]  # 5 to 8: on a side


def _timing(image):
  """(index of the first frame, n_frames, fps) of an image."""
  n_frames = (getattr(image, 'n_frames', 1) if image.format in ANIMATED else 1)
  if n_frames == 1:
    return 0, 1, STILL_FPS
  # An APNG may hold a picture for those who cannot play it.
  first = int(bool(image.info.get('default_image')))
  total_ms = 0
  for i in range(first, n_frames):
    image.seek(i)
    image.load()
    shown_ms = image.info.get('duration', 0)
    total_ms += shown_ms if shown_ms > 10 else 100  # as browsers play it
  image.seek(first)
  n_frames -= first
  return first, n_frames, 1000 * n_frames / total_ms


def _in_8_bits(image, form, tags):
  """A grey image of more bits in mode L or LA, the range of its type kept.

  form, tags: the format of its file, None in memory, and its TIFF tags.
  """
  from PIL import Image
  # Pillow itself scales a PGM of any depth to 16 bits, in mode I.
  if image.mode == 'F' or image.mode == 'I' and form not in ('PPM', 'PNG'):
    number = 'integers' if image.mode == 'I' else 'floats'
    raise ValueError(
        f'its pixels are 32-bit {number} (mode {image.mode}), whose range is '
        'not known: scale them to 8 or 16 bits')
  most = 4095 if tags.get(_BITS) == (12,) else 65535
  levels = np.asarray(image)
  grey = np.round(np.arange(65536) * (255 / most)).clip(0, 255)
  if tags.get(_PHOTOMETRIC) == 0:  # white is zero
    grey = 255 - grey
  scaled = Image.fromarray(grey.astype(np.uint8)[levels])
  hidden = image.info.get('transparency')
  if hidden is not None:
    scaled.putalpha(Image.fromarray(
        np.where(levels == hidden, 0, 255).astype(np.uint8)))
  return scaled


def _from_lab(image):
  """Mode LAB, which Pillow does not convert itself, in sRGB."""
  from PIL import ImageCms
  lab, srgb = (ImageCms.createProfile(name) for name in ('LAB', 'sRGB'))
  return ImageCms.profileToProfile(image, lab, srgb, outputMode='RGB')
