"""No item ends the work on the others, however it is broken."""
import io
import pathlib
import time
import wave

import jax
import numpy as np
import PIL.Image
import pytest

from jaxret import embedder as embedding
from jaxret import sharding, train
from jaxret.data import types
from jaxret.methods.unite import method as unite
from tests import tiny_unite
from tests.numbered_videos import edited, video

DAMAGED_AVIF = pathlib.Path(__file__).parent / 'data/files/damaged.avif'


def encoded(pixels, form='png', **options):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, form, **options)
  return file.getvalue()


def sound():
  file = io.BytesIO()
  with wave.open(file, 'wb') as out:
    out.setnchannels(1)
    out.setsampwidth(2)
    out.setframerate(8000)
    out.writeframes(bytes(800))
  return file.getvalue()


def closed():
  image = PIL.Image.new('RGB', (28, 28))
  image.close()
  return image


class Strange:
  """What raises an exception of its own wherever it is touched."""

  def __array__(self, *args, **options):
    raise RuntimeError('touched')

  __fspath__ = __len__ = convert = getbands = load = __array__


def broken(tmp_path):
  """Thirty items of which none can be used."""
  picture = tiny_unite.pixels(0)
  png, clip = encoded(picture), video(8)
  good = str(tmp_path / 'good.png')
  pathlib.Path(good).write_bytes(png)
  (tmp_path / 'empty').touch()
  (tmp_path / 'list.m3u8').write_text(
      f'#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n')
  start = video(8, container_options={'movflags': 'faststart'})
  return [
      {'image': str(tmp_path / 'gone.png')}, {'image': str(tmp_path)},
      {'image': str(tmp_path / 'empty')}, {'image': png[:len(png) // 2]},
      {'image': encoded(picture, 'jpeg')[:300]}, {'image': b'no image'},
      {'image': str(DAMAGED_AVIF)}, {'image': b'P5 30000 30000 255 '},
      {'image': encoded(picture[..., 0].astype(np.float32), 'tiff')},
      {'image': encoded(picture[..., 0].astype(np.int32), 'tiff')},
      {'image': np.zeros((1, 10000, 3), np.uint8)},
      {'image': np.zeros((28, 28, 4), np.uint8)},
      {'image': np.zeros((28, 0, 3), np.uint8)}, {'image': closed()},
      {'image': []}, {'image': Strange()},
      {'video': start[:-300]}, {'video': clip[:-200]}, {'video': sound()},
      {'video': edited(clip, [(0, 3)])}, {'video': str(tmp_path / 'list.m3u8')},
      {'video': np.zeros((0, 28, 28, 3), np.uint8)},
      {'video': [picture, picture[:28]]},
      {'video': [good, str(tmp_path / 'gone.png')]}, {'video': [picture, clip]},
      'half a \ud83d character', {'text': 'red ' * 900}, {'audio': 'x.wav'},
      b'bytes alone', 7]


def whole():
  """Items that can be used, few of them, of several shapes."""
  return [
      'red square', {'image': tiny_unite.pixels(0)}, 'blue circle moves left',
      PIL.Image.fromarray(tiny_unite.pixels(3)), {'text': 'up ' * 30},
      {'image': encoded(tiny_unite.pixels(1, 28, 56))}, {'video': video(3)},
      {'text': 'up', 'image': tiny_unite.pixels(2, 28, 28)},
      tiny_unite.pixels(4), types.Item('a named one', text='left right')]


@pytest.fixture(scope='module')
def model():
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  reader = unite.reader(config, tokenizer)
  reader.trim_text = False
  return embedding.Embedder(
      unite.model_config(config, tokenizer),
      train.init_params(unite.method(config, tokenizer), 0, mesh), reader, mesh)


def check(model, tmp_path, good, n_items, n_broken):
  """Embeds `n_items` of which n_broken cannot be; what it took, in seconds."""
  bad = broken(tmp_path)
  assert len(bad) == 30
  where = np.random.default_rng(0).permutation(n_items)[:n_broken]
  items = [good[i % len(good)] for i in range(n_items)]
  for k, i in enumerate(where):
    items[i] = bad[k % len(bad)]
  errors, start = [], time.perf_counter()
  got = model.encode(items, on_error=errors.append, show_progress=False)
  seconds = time.perf_counter() - start
  messages = [str(error) for error in errors]
  assert sorted(messages, key=lambda m: int(m.split()[1][:-1])) == messages
  assert [m.partition(': ')[0] for m in messages] == [
      f'item {i}' for i in sorted(where)]
  assert all(isinstance(error, ValueError) for error in errors)
  assert not any('\n' in message for message in messages)
  kept = np.setdiff1d(np.arange(n_items), where)
  assert np.isnan(got[where]).all()
  np.testing.assert_array_equal(got[kept], model.encode(
      [items[i] for i in kept], show_progress=False))
  return seconds


def test_each_of_thirty_broken_items_is_left_out(model, tmp_path):
  check(model, tmp_path, whole()[:4], 60, 30)
  for item in broken(tmp_path):
    with pytest.raises(ValueError, match='^item 1: ') as error:
      model.encode(['red', item], show_progress=False)
    assert '\n' not in str(error.value)
    assert np.isnan(model.encode(
        [item], on_error='skip', show_progress=False)).all()


@pytest.mark.campaign
@pytest.mark.slow
def test_300_of_10000_are_left_out(model, tmp_path):
  seconds = check(model, tmp_path, whole(), 10000, 300)
  print(f'10,000 items, 300 of them broken in 30 ways: {seconds:.1f} s')


@pytest.mark.parametrize('error', [
    BaseException('a panic'), MemoryError(), RuntimeError('two\nlines')])
def test_whatever_a_reader_raises_is_said_of_its_item(
    model, monkeypatch, error):
  def read(item, prompt):
    if item.text == 'bad':
      raise error
    return reader(item, prompt)
  reader = model.reader
  read.bucket, read.pad = reader.bucket, reader.pad
  monkeypatch.setattr(model, 'reader', read)
  with pytest.raises(ValueError, match='^item 1: it cannot be used') as raised:
    model.encode(['red', 'bad'], show_progress=False)
  assert '\n' not in str(raised.value) and raised.value.__cause__ is error
  rows = model.encode(['red', 'bad'], on_error='skip', show_progress=False)
  assert np.isfinite(rows[0]).all() and np.isnan(rows[1]).all()


@pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit])
def test_what_a_user_stops_is_not_taken_for_a_bad_item(
    model, monkeypatch, error):
  def read(item, prompt):
    raise error
  monkeypatch.setattr(model, 'reader', read)
  with pytest.raises(error):
    model.encode(['red'], on_error='skip', show_progress=False)


@pytest.mark.parametrize('given, word', [
    (b'\xff\xd8', "got bytes; want .*{'image': bytes} or {'video': bytes}"),
    (pathlib.Path('a.png'), "got PosixPath; .*{'image': PosixPath}"),
    (np.zeros((2, 28, 28, 3), np.uint8), "got ndarray.*{'video': ndarray}"),
    (['a', 'b'], 'got list'), (None, 'got NoneType; want a text or a dict'),
    (7, 'got int')])
def test_what_is_no_item_says_what_to_write(given, word):
  with pytest.raises(ValueError, match=f'^item 3: {word}'):
    embedding.as_item(given, 3)


def test_one_image_alone_is_one_item(model):
  pixels = tiny_unite.pixels(0)
  want = model.encode({'image': pixels}, show_progress=False)
  for alone in pixels, PIL.Image.fromarray(pixels):
    got = model.encode(alone, show_progress=False)
    assert got.shape == (model.width,)
    np.testing.assert_array_equal(got, want)
  for alone in b'\xff\xd8', pathlib.Path('a.png'):
    with pytest.raises(ValueError, match='^item 0: got'):
      model.encode(alone, show_progress=False)


def test_ids_of_any_type_name_their_item(model):
  for item in {'id': 7, 'audio': 1}, types.Item(7, image=b'x'):
    with pytest.raises(ValueError, match='^7: '):
      model.encode([item], show_progress=False)


def test_an_image_in_memory_is_turned_as_its_file(model, tmp_path):
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  file = tmp_path / 'phone.jpg'
  file.write_bytes(encoded(tiny_unite.pixels(0), 'jpeg', exif=exif))
  path, opened, data = (model.encode({'image': image}, show_progress=False)
                        for image in (str(file), PIL.Image.open(file),
                                      file.read_bytes()))
  np.testing.assert_array_equal(path, opened)
  np.testing.assert_array_equal(path, data)


def test_one_image_is_decoded_by_one_thread(model, tmp_path):
  file = tmp_path / 'x.png'
  file.write_bytes(encoded(tiny_unite.pixels(0)))
  image = PIL.Image.open(file)
  rows = model.encode(
      [{'image': image}] * 32, batch_size=1, show_progress=False)
  np.testing.assert_array_equal(rows, rows[:1].repeat(32, 0))


def test_an_item_that_fits_no_batch_is_left_out(model):
  fixed = embedding.Embedder(model.config, model.params, model.reader,
                             model.mesh, shape=(48, 0, 0))
  items = ['red', 'blue ' * 60, {'image': tiny_unite.pixels(0)}, 'up']
  errors = []
  rows = fixed.encode(items, on_error=errors.append, show_progress=False)
  assert [str(error).partition(': ')[0] for error in errors] == [
      'item 1', 'item 2']
  assert np.isfinite(rows[[0, 3]]).all() and np.isnan(rows[[1, 2]]).all()
