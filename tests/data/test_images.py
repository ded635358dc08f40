"""Stills and animations are shown as other programs show them, in 8 bits."""
import io
import pathlib
import struct
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageFile

from jaxret.data import images, media
from jaxret.data.sources import MediaError

FILES = pathlib.Path(__file__).parent / 'files'
WHITE = (255, 255, 255)


def encoded(image, form='png', **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


def pixels(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# 16 bits and more.


LEVELS = np.arange(0, 65536, 61, dtype=np.uint16)[:1050].reshape(30, 35)
SCALED = np.array([[round(int(x) / 257) for x in row] for row in LEVELS])


@pytest.mark.parametrize('data', [
    encoded(Image.fromarray(LEVELS), 'png'),
    encoded(Image.fromarray(LEVELS), 'tiff'),
    encoded(Image.fromarray(LEVELS), 'tiff', compression='tiff_lzw'),
    encoded(Image.fromarray(LEVELS.astype('>u2')), 'tiff'),
    b'P5 35 30 65535 ' + LEVELS.astype('>u2').tobytes()],
    ids=['png', 'tiff', 'lzw', 'big-endian tiff', 'pgm'])
def test_16_bits_are_scaled_by_their_range(data):
  shown = images.read(data)
  np.testing.assert_array_equal(shown, np.repeat(SCALED[..., None], 3, 2))
  with Image.open(io.BytesIO(data)) as image:
    np.testing.assert_array_equal(images.shown(image), shown)


def test_16_bits_in_memory_are_those_of_a_file():
  want = np.repeat(SCALED[..., None], 3, 2)
  for dtype in ('<u2', '>u2'):
    image = Image.fromarray(LEVELS.astype(dtype))
    assert image.mode.startswith('I;16')
    np.testing.assert_array_equal(images.of_pil(image, 'x'), want)


def tiff(bits, photometric, rows, data):
  """A grey TIFF of one strip that Pillow does not write itself."""
  fields = [(256, 3, rows[1]), (257, 3, rows[0]), (258, 3, bits), (259, 3, 1),
            (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 4, rows[0]),
            (279, 4, len(data))]
  directory = struct.pack('<H', len(fields)) + b''.join(
      struct.pack('<HHII', tag, kind, 1, value)
      for tag, kind, value in fields) + bytes(4)
  return struct.pack('<2sHI', b'II', 42, 8 + len(data)) + data + directory


def test_12_bits_and_white_that_is_zero():
  inverted = tiff(16, 0, LEVELS.shape, LEVELS.tobytes())
  np.testing.assert_array_equal(images.read(inverted)[..., 0], 255 - SCALED)
  packed = bytes([0xff, 0xf0, 0x00, 0x80, 0x0f, 0xff])  # 4095 0 2048 4095
  got = images.read(tiff(12, 1, (1, 4), packed))[..., 0]
  np.testing.assert_array_equal(got, [[255, 0, round(2048 / 4095 * 255), 255]])


def test_colour_of_16_bits_keeps_its_picture():
  """Pillow reads it in 8 bits; what it gives must be the high byte or round."""
  rgb = LEVELS[:, :33].reshape(30, 11, 3)
  import zlib
  def chunk(name, data):
    return (struct.pack('>I', len(data)) + name + data
            + struct.pack('>I', zlib.crc32(name + data)))
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in rgb)
  data = (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
      '>IIBBBBB', 11, 30, 16, 2, 0, 0, 0)) + chunk(
          b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
  np.testing.assert_allclose(images.read(data), rgb / 257, atol=1)


@pytest.mark.parametrize('dtype, word', [
    (np.float32, 'floats \\(mode F\\)'), (np.int32, 'integers \\(mode I\\)')])
def test_pixels_without_a_range_are_refused_by_name(dtype, word):
  image = Image.fromarray(LEVELS.astype(dtype))
  with pytest.raises(MediaError, match=f'^x: .*32-bit {word}.*scale them'):
    images.of_pil(image, 'x')
  with pytest.raises(MediaError, match=word):
    images.read(encoded(image, 'tiff'))
  assert images.read(encoded(image, 'tiff'), size_only=True) == (30, 35)


# Colours and transparency.


def test_modes_of_8_bits_are_their_picture():
  rgb = Image.fromarray(pixels(0, 20, 30, 3))
  for mode in ('1', 'L', 'P', 'CMYK', 'YCbCr', 'HSV', 'RGBX', 'RGB'):
    image = rgb.convert(mode)
    np.testing.assert_array_equal(
        images.shown(image), np.asarray(image.convert('RGB')), mode)


def test_lab_is_converted():
  flat = Image.new('RGB', (4, 4), (200, 60, 30))
  lab = ImageCms.profileToProfile(
      flat, ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'),
      outputMode='LAB')
  for image in (lab, Image.open(io.BytesIO(encoded(lab, 'tiff')))):
    assert image.mode == 'LAB'
    np.testing.assert_allclose(images.shown(image), np.asarray(flat), atol=3)


def transparent():
  """{name: (image with a colour hidden at half and at whole transparency)}.

  The first pixel is opaque, the second lets 60 % of white through, the third
  all of it.
  """
  rgba = Image.fromarray(np.array(
      [[[200, 0, 50, 255], [200, 0, 50, 102], [200, 0, 50, 0]]], np.uint8))
  palette = Image.new('P', (3, 1))
  palette.putpalette([200, 0, 50] * 3)
  palette.putdata([0, 1, 2])
  with_alpha = palette.copy()
  with_alpha.putalpha(rgba.getchannel('A'))
  assert with_alpha.mode == 'PA'
  return {
      'RGBA': encoded(rgba),
      'webp': encoded(rgba, 'webp', lossless=True, exact=True),
      'LA': encoded(rgba.convert('LA')), 'tiff': encoded(rgba, 'tiff'),
      'palette': encoded(palette, transparency=bytes([255, 102, 0])),
      'premultiplied': rgba.convert('RGBa'),
      'grey premultiplied': rgba.convert('LA').convert('La'),
      'palette with alpha': with_alpha}


@pytest.mark.parametrize('kind', transparent())
def test_what_is_transparent_lies_on_white(kind):
  image = transparent()[kind]
  if isinstance(image, bytes):
    shown, released = (images.read(image, alpha=alpha)
                       for alpha in images.ALPHA)
  else:
    shown, released = (images.of_pil(image, 'x', alpha)
                       for alpha in images.ALPHA)
  colour = released[0, 0].astype(float)
  np.testing.assert_array_equal(shown[0, 0], released[0, 0])
  np.testing.assert_allclose(shown[0, 1], 0.4 * colour + 0.6 * 255, atol=1)
  np.testing.assert_array_equal(shown[0, 2], WHITE)
  if 'premultiplied' not in kind:  # there the hidden colours are lost
    np.testing.assert_array_equal(released, [[released[0, 0]] * 3])


def test_one_transparent_colour_lies_on_white():
  rgb = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
  grey = Image.fromarray(np.array([[7, 9]], np.uint8))
  deep = Image.fromarray(np.array([[257 * 7, 257 * 9]], np.uint16))
  for image, hidden in ((rgb, (9, 9, 9)), (grey, 9), (deep, 257 * 9)):
    data = encoded(image, transparency=hidden)
    shown = images.read(data)
    np.testing.assert_array_equal(shown[0, 1], WHITE)
    assert (shown[0, 0] < 10).all()
    assert (images.read(data, alpha='released')[0, 1] == 9).all()


def test_hidden_colours_make_no_difference():
  alpha = pixels(0, 20, 30, 1)
  one, other = (np.where(alpha == 0, pixels(seed, 20, 30, 3), pixels(
      3, 20, 30, 3)) for seed in (1, 2))
  alpha = np.where(alpha < 128, 0, 255).astype(np.uint8)
  one, other = (np.where(alpha, pixels(3, 20, 30, 3), hidden).astype(np.uint8)
                for hidden in (one, pixels(2, 20, 30, 3)))
  one, other = (encoded(Image.fromarray(np.concatenate([x, alpha], 2)))
                for x in (one, other))
  np.testing.assert_array_equal(images.read(one), images.read(other))
  assert (images.read(one, alpha='released')
          != images.read(other, alpha='released')).any()


def test_an_opaque_image_is_as_released():
  rgba = np.concatenate([pixels(0, 20, 30, 3), np.full((20, 30, 1), 255,
                                                       np.uint8)], 2)
  np.testing.assert_array_equal(
      images.read(encoded(Image.fromarray(rgba))), rgba[..., :3])
  with pytest.raises(ValueError, match="alpha is 'black'; want one of white"):
    images.check_alpha('black')


# Orientation, in files and in memory.


ORIENTED = {  # EXIF's value -> what is shown, from the stored picture
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}
FORMS = {'png': {}, 'webp': {'lossless': True}, 'tiff': {},
         'avif': {'quality': 100, 'subsampling': '4:4:4'}, 'jpeg': {}}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('orientation', ORIENTED)
def test_a_picture_is_turned_as_its_exif_says(form, orientation):
  stored = np.kron(pixels(0, 3, 4, 3), np.ones((8, 8, 1), np.uint8))
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  data = encoded(Image.fromarray(stored), form, exif=exif, **FORMS[form])
  shown, want = images.read(data), ORIENTED[orientation](stored)
  assert shown.shape == want.shape
  if form in ('jpeg', 'avif'):  # lossy: each block keeps its mean
    means = [x.reshape(x.shape[0] // 8, 8, -1, 8, 3).mean((1, 3))
             for x in (shown.astype(float), want)]
    np.testing.assert_allclose(*means, atol=30)
  else:
    np.testing.assert_array_equal(shown, want)
  assert images.read(data, size_only=True) == want.shape[:2]
  with Image.open(io.BytesIO(data)) as image:
    assert images.size_of_pil(image, 'x') == want.shape[:2]
    np.testing.assert_array_equal(images.of_pil(image, 'x'), shown)


def test_16_bits_are_turned_too():
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  data = encoded(Image.fromarray(LEVELS), 'png', exif=exif)
  np.testing.assert_array_equal(
      images.read(data)[..., 0], np.rot90(SCALED, -1))


@pytest.mark.parametrize('form', ['png', 'jpeg'])
@pytest.mark.parametrize('orientation, size', [(1, (20, 30)), (6, (30, 20))])
def test_the_size_of_a_still_image_is_read_without_its_pixels(
    form, orientation, size, monkeypatch):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encoded(Image.new('RGB', (30, 20)), form, exif=exif)
  assert images.read(data).shape[:2] == size
  def load(image):
    raise AssertionError('decoded')
  monkeypatch.setattr(ImageFile.ImageFile, 'load', load)
  assert images.read(data, size_only=True) == size


# Animations.


def frames(n=4):
  return [np.full((20, 30, 3), 60 * i, np.uint8) for i in range(n)]


ANIMATIONS = {'png': {}, 'gif': {}, 'webp': {'lossless': True},
              'avif': {'quality': 100, 'subsampling': '4:4:4'}}


@pytest.mark.parametrize('form', ANIMATIONS)
def test_an_animation_is_a_video_and_its_first_frame_an_image(form):
  first, *rest = map(Image.fromarray, frames())
  data = encoded(first, form, save_all=True, append_images=rest, duration=40,
                 **ANIMATIONS[form])
  atol = 2 if form == 'avif' else 0
  assert not images.is_still(data)
  info = media.probe(data)
  assert (info.n_frames, info.width, info.height) == (4, 30, 20)
  assert info.fps == pytest.approx(25)
  np.testing.assert_allclose(images.read(data), frames()[0], atol=atol)
  for wanted in ([0, 1, 2, 3], [2], [3, 0, 3]):
    got = media.sample_frames(data, lambda n, fps, w=wanted: w)
    np.testing.assert_allclose(got, np.stack(frames())[wanted], atol=atol)
  with pytest.raises(MediaError, match='frame 4 asked of 4'):
    media.sample_frames(data, lambda n, fps: [4])


def test_rates_of_animations_are_those_of_browsers():
  first, *rest = map(Image.fromarray, frames())
  for durations, fps in (((100, 300, 100, 100), 1000 * 4 / 600), (0, 10)):
    data = encoded(first, 'gif', save_all=True, append_images=rest,
                   duration=durations)
    assert media.probe(data).fps == pytest.approx(fps)


def test_the_picture_for_those_who_cannot_play_is_no_frame():
  first, *rest = map(Image.fromarray, frames())
  data = encoded(first, save_all=True, append_images=rest, duration=40,
                 default_image=True)
  got = media.sample_frames(data, lambda n, fps: range(n))
  np.testing.assert_array_equal(got, np.stack(frames())[1:])
  np.testing.assert_array_equal(images.read(data), frames()[0])


@pytest.mark.parametrize('form', ['png', 'gif', 'webp', 'bmp', 'tiff', 'jpeg'])
def test_a_still_given_as_a_video_is_one_frame(form, tmp_path):
  file = tmp_path / 'x.any'
  file.write_bytes(encoded(Image.fromarray(frames()[1]), form))
  assert images.is_still(str(file))
  info = media.probe(str(file))
  assert (info.n_frames, info.width, info.height) == (1, 30, 20)
  np.testing.assert_array_equal(
      media.sample_frames(str(file), lambda n, fps: [0])[0],
      images.read(str(file)))


# What is not read.


def test_heic_is_read_or_its_extra_is_named(monkeypatch):
  data = (FILES / 'phone.heic').read_bytes()
  monkeypatch.setitem(sys.modules, 'pillow_heif', None)
  for read in (images.read, media.probe):
    with pytest.raises(MediaError, match=r"HEIC.*pip install -e '.\[heif\]'"):
      read(data)


def test_heic_is_turned_as_other_images_are():
  pillow_heif = pytest.importorskip('pillow_heif')
  data = (FILES / 'phone.heic').read_bytes()
  shown = images.read(data)
  want = np.asarray(pillow_heif.open_heif(data).to_pillow().convert('RGB'))
  np.testing.assert_array_equal(shown, want)
  assert images.read(data, size_only=True) == shown.shape[:2]


def test_damage_is_a_media_error():
  with pytest.raises(MediaError, match='not a readable image'):
    images.read(str(FILES / 'damaged.avif'))
  whole = encoded(Image.fromarray(pixels(0, 40, 50, 3)))
  for data in (whole[:100], b'no image', b'\x89PNG\r\n\x1a\n'):
    with pytest.raises(MediaError, match='not a readable image'):
      images.read(data)
  image = Image.open(io.BytesIO(whole[:len(whole) // 2]))
  with pytest.raises(MediaError, match='^frame 3: not a readable image'):
    images.of_pil(image, 'frame 3')
  with pytest.raises(MediaError, match='900000000 pixels, want'):
    images.read(b'P5 30000 30000 255 ')


def test_formats_that_start_programs_are_not_opened(monkeypatch):
  eps = (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n'
         b'showpage\n%%EOF\n')
  def start(*args, **options):
    raise AssertionError('started')
  monkeypatch.setattr('subprocess.Popen', start)
  monkeypatch.setattr('subprocess.check_call', start)
  with pytest.raises(MediaError, match='cannot identify'):
    images.read(eps)
