"""Score matrices on disk survive a killed run, and only their own inputs."""
import json

import numpy as np
import pytest

from jaxret.scoring import store

FINGERPRINT = {'weights': 'abc', 'items': '12', 'nonzero_denominator': True}


def test_new_matrix_is_nan_and_what_is_written_stays(tmp_path):
  first = store.Store(tmp_path / 'scores', FINGERPRINT)
  matrix = first.matrix('text_given_video', (np.int64(3), 4))
  assert matrix.dtype == np.float32 and np.isnan(matrix).all()
  matrix[1, :2] = 5, 6
  matrix.flush()
  again = store.Store(tmp_path / 'scores', dict(FINGERPRINT)).matrix(
      'text_given_video', (3, 4))
  np.testing.assert_array_equal(again[1, :2], [5, 6])
  assert np.isnan(again).sum() == 10
  again[0, 0] = 7  # can be gone on with
  np.testing.assert_array_equal(
      np.load(tmp_path / 'scores' / 'text_given_video.npy')[0, 0], 7)


@pytest.mark.parametrize('change, message', [
    ({'weights': 'abd'}, "weights was 'abc', is 'abd'"),
    ({'nonzero_denominator': False}, 'nonzero_denominator was True, is False'),
    ({'another': 1}, 'another was None, is 1'),
])
def test_scores_of_other_inputs_are_refused_by_field(
    tmp_path, change, message):
  store.Store(tmp_path, FINGERPRINT)
  with pytest.raises(ValueError, match=message) as caught:
    store.Store(tmp_path, FINGERPRINT | change)
  assert '\n' not in str(caught.value) and str(tmp_path) in str(caught.value)
  store.Store(tmp_path, FINGERPRINT)  # and nothing was changed


def test_killed_while_a_matrix_was_made(tmp_path):
  scores = store.Store(tmp_path, FINGERPRINT)
  (tmp_path / '.prior.npy.1-1.partial').write_bytes(b'half of a header')
  (tmp_path / '.manifest.json.1-1.partial').write_bytes(b'{"wei')
  assert json.loads((tmp_path / 'manifest.json').read_text()) == FINGERPRINT
  assert np.isnan(scores.matrix('prior', (2,))).all()


def filled(path, shape=(5, 2500)):
  """A store with a matrix of known values, written by rows."""
  matrix = store.Store(path, FINGERPRINT).matrix('scores', shape)
  values = -np.random.default_rng(0).random(shape).astype(np.float32)
  for row in range(shape[0]):
    matrix[[row], :] = values[[row]]
  matrix.flush()
  return values


@pytest.mark.parametrize('size', [0, 40, 128, 129, 25_000, 50_127])
def test_a_file_that_lost_its_end_is_refused_by_name(tmp_path, size):
  """NumPy would make it longer with zeros, the best log-likelihood of all."""
  filled(tmp_path)
  path = tmp_path / 'scores.npy'
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match='is damaged') as caught:
    store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))
  assert str(path) in str(caught.value) and path.stat().st_size == size


def test_a_matrix_of_another_shape_is_refused(tmp_path):
  filled(tmp_path)
  with pytest.raises(ValueError, match=r'got float32 \(5, 2500\), want'):
    store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2000))


@pytest.mark.parametrize('shape', [(5, 2500), (40,)])
@pytest.mark.parametrize('seed', range(5))
def test_a_flipped_bit_opens_the_cells_around_it(tmp_path, caplog, shape, seed):
  values = filled(tmp_path, shape) if len(shape) == 2 else None
  if values is None:
    matrix = store.Store(tmp_path, FINGERPRINT).matrix('scores', shape)
    values = matrix[...] = -np.arange(shape[0], dtype=np.float32)
    del matrix
  path = tmp_path / 'scores.npy'
  data = bytearray(path.read_bytes())
  cell = int(np.random.default_rng(seed).integers(values.size))
  data[-4 * values.size + 4 * cell + seed % 4] ^= 1 << seed
  path.write_bytes(data)
  found = store.Store(tmp_path, FINGERPRINT).matrix('scores', shape)
  is_open = np.isnan(found)
  assert is_open.flat[cell] and str(path) in caplog.text
  assert is_open.sum() <= (store.CHUNK if len(shape) == 2 else 1)
  np.testing.assert_array_equal(found[~is_open], values[~is_open])
  found[is_open] = values[is_open]  # scored again
  caplog.clear()
  again = store.Store(tmp_path, FINGERPRINT).matrix('scores', shape)
  np.testing.assert_array_equal(again, values)
  assert not caplog.text


def test_a_kill_between_cells_and_checksums_opens_them(tmp_path, caplog):
  filled(tmp_path)
  path = tmp_path / 'scores.npy'
  cells = np.load(path, mmap_mode='r+')  # past the store
  cells[2, 1500:1600] = -7
  cells.flush()
  found = store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))
  assert np.isnan(found[2, 1024:2048]).all() and np.isnan(found).sum() == 1024
  assert '1 of 15 parts' in caplog.text


def test_a_matrix_without_its_checksums_is_refused(tmp_path):
  filled(tmp_path)
  sums = tmp_path / 'scores.crc32.npy'
  data = sums.read_bytes()
  sums.write_bytes(data[:-4])
  with pytest.raises(ValueError, match=r'scores.crc32.npy is damaged'):
    store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))
  sums.unlink()
  with pytest.raises(ValueError, match='has no checksums'):
    store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))


@pytest.mark.parametrize('place', [
    np.s_[...], np.s_[3], np.s_[1:4], np.s_[:, 1024:1030], np.s_[-1, -1],
    (np.array([[0], [4]]), np.array([[5, 2400], [7, 1030]])),
    np.arange(12500).reshape(5, 2500) % 1300 == 0])
def test_whatever_is_assigned_is_checksummed(tmp_path, caplog, place):
  filled(tmp_path)
  matrix = store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))
  matrix[place] = -3
  assert (matrix[place] == -3).all()
  again = store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))
  np.testing.assert_array_equal(again, matrix)
  assert not caplog.text


def test_a_part_of_a_matrix_cannot_be_assigned_to(tmp_path):
  filled(tmp_path)
  matrix = store.Store(tmp_path, FINGERPRINT).matrix('scores', (5, 2500))
  with pytest.raises(AssertionError, match='not to a part'):
    matrix[1:3][0] = 0


def test_a_damaged_manifest_is_refused_by_name(tmp_path):
  store.Store(tmp_path, FINGERPRINT)
  path = tmp_path / 'manifest.json'
  path.write_text('{"wei')
  with pytest.raises(ValueError, match=f'{path} is damaged'):
    store.Store(tmp_path, FINGERPRINT)
