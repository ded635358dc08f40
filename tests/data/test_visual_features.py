"""Features of media: keys by content, memory by bytes, files with checksums."""
import shutil

import ml_dtypes
import numpy as np
import PIL.Image
import pytest

from jaxret.data import media, visual_features
from tests import tiny_unite

PIXELS = tiny_unite.pixels(0)
FEATURES = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def key(source, kind='image'):
  return visual_features.content_key('x', kind, source)


def test_a_key_is_that_of_the_content(tmp_path):
  one, other = tmp_path / 'a.png', tmp_path / 'b.png'
  PIL.Image.fromarray(PIXELS).save(one)
  shutil.copy(one, other)
  assert key(str(one)) == key(other) == key(one.read_bytes())
  assert key(str(one)) != key(str(one), 'video')
  before = key(str(one))
  PIL.Image.fromarray(tiny_unite.pixels(1)).save(one)
  assert key(str(one)) != before == key(str(other))
  found = {key(PIXELS), key(PIXELS[:20]), key((PIXELS,)), key((PIXELS, PIXELS)),
           key(PIXELS.reshape(-1, 40, 3)), key(PIL.Image.fromarray(PIXELS)),
           key(PIL.Image.fromarray(tiny_unite.pixels(1)))}
  assert len(found) == 7
  assert key(PIL.Image.fromarray(PIXELS)) == key(PIL.Image.open(other))


@pytest.mark.parametrize('source', ['/no/such.png', b''])
def test_errors_name_the_item(source):
  with pytest.raises(media.MediaError, match='^x: its image cannot be read: '):
    key(source)


def test_memory_drops_what_was_used_least():
  memory = visual_features.Memory(2 * FEATURES.nbytes)
  for name in 'abac':
    if memory.get(name) is None:
      memory.put(name, FEATURES)
  assert memory.get('b') is None
  assert memory.get('a') is memory.get('c') is FEATURES
  memory.put('large', np.zeros((9, 9)))  # stays, alone
  assert memory.get('large') is not None and memory.get('c') is None


@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_what_is_kept_on_disk_is_found_again(tmp_path, dtype):
  features = FEATURES.astype(dtype)
  opened = visual_features.Directory(tmp_path, {'weights': 'a'}, dtype)
  assert opened.get('abcd', (3, 5)) is None
  opened.put('abcd', features)
  again = visual_features.Directory(tmp_path, {'weights': 'a'}, dtype)
  found = again.get('abcd', (3, 5))
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, features)
  other = visual_features.Directory(tmp_path, {'weights': 'b'}, dtype)
  assert other.get('abcd', (3, 5)) is None


@pytest.mark.parametrize('damage', ['flip', 'cut', 'empty', 'shape'])
def test_a_damaged_file_is_said_and_counts_as_none(tmp_path, damage, caplog):
  opened = visual_features.Directory(tmp_path, {}, np.float32)
  opened.put('abcd', FEATURES)
  (path,) = opened.directory.glob('*/*.npz')
  data = bytearray(path.read_bytes())
  if damage == 'flip':
    data[data.index(FEATURES.tobytes()) + 9] ^= 4
  path.write_bytes(
      {'cut': data[:-30], 'empty': b''}.get(damage, bytes(data)))
  assert opened.get('abcd', (4, 5) if damage == 'shape' else (3, 5)) is None
  assert f'{path} is damaged' in caplog.text
  opened.put('abcd', FEATURES)
  np.testing.assert_array_equal(opened.get('abcd', (3, 5)), FEATURES)


def test_a_file_is_no_directory(tmp_path):
  (tmp_path / 'kept').write_text('')
  with pytest.raises(ValueError, match='kept cannot be a directory') as error:
    visual_features.Directory(tmp_path / 'kept', {}, np.float32)
  assert '\n' not in str(error.value)
