"""What jaxret wrote is read whole, or refused by its name in one line."""
import numpy as np
import pytest

from jaxret import own_files


@pytest.mark.parametrize('content, reason', [
    (b'{"a": 1', 'not JSON'), (b'', 'not JSON'), (b'\xff{}', 'not JSON'),
    (b'[1]', 'a JSON list'), (b'[' * 100_000, 'not JSON')])
def test_a_damaged_object_is_refused_by_file_and_remedy(
    tmp_path, content, reason):
  path = tmp_path / 'results.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=reason) as caught:
    own_files.read_object(path, 'evaluate again')
  assert str(path) in str(caught.value)
  assert str(caught.value).endswith('; evaluate again')
  path.write_text('{"a": 1}')
  assert own_files.read_object(path) == {'a': 1}


@pytest.mark.parametrize('half', ['{"id": "c', '{"id": "c"', '7', '\0\0'])
def test_half_a_last_line_is_dropped(tmp_path, half):
  path = tmp_path / 'metrics.jsonl'
  assert own_files.read_lines(path) == []
  path.write_text('{"id": "a"}\n{"id": "b"}\n' + half)
  assert own_files.read_lines(path) == [{'id': 'a'}, {'id': 'b'}]


def test_a_damaged_line_within_is_refused_by_number(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"id": "a"}\n{"id"\n{"id": "c"}\n')
  with pytest.raises(ValueError, match=f'{path}, line 2 is damaged'):
    own_files.read_lines(path)


@pytest.mark.parametrize('mode', [None, 'r', 'r+'])
def test_every_cut_of_an_array_is_refused(tmp_path, mode):
  path, whole = tmp_path / 'a.npy', np.arange(12, dtype=np.float32)
  np.save(path, whole.reshape(3, 4))
  data = path.read_bytes()
  for size in range(0, len(data), 7):
    path.write_bytes(data[:size])
    with pytest.raises(ValueError, match='is damaged') as caught:
      own_files.read_array(path, np.float32, (3, 4), 'run again', mode)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    assert path.stat().st_size == size  # and it is not made longer
  path.write_bytes(data + b'\0')
  with pytest.raises(ValueError, match=f'{len(data) + 1} bytes, want'):
    own_files.read_array(path, np.float32, (3, 4), mode=mode)
  path.write_bytes(data)
  found = own_files.read_array(path, np.float32, (None, 4), mode=mode)
  np.testing.assert_array_equal(found, whole.reshape(3, 4))


@pytest.mark.parametrize('dtype, shape', [
    (np.float64, (3, 4)), (np.int32, (3, 4)), (np.float32, (4, 3)),
    (np.float32, (3,)), (np.float32, (3, None, 1))])
def test_another_type_or_shape_is_refused(tmp_path, dtype, shape):
  path = tmp_path / 'a.npy'
  np.save(path, np.zeros((3, 4), np.float32))
  with pytest.raises(ValueError, match=r'got float32 \(3, 4\), want'):
    own_files.read_array(path, dtype, shape)


def test_objects_are_not_unpickled(tmp_path):
  path = tmp_path / 'a.npy'
  np.save(path, np.array([{}], object), allow_pickle=True)
  with pytest.raises(ValueError, match='is damaged'):
    own_files.read_array(path, np.float32, (1,))


def test_the_checksum_is_that_of_zip():
  """crc32 of b'123456789' is the check value of the standard."""
  assert own_files.checksum(b'123456789') == 0xCBF43926
  digits = np.frombuffer(b'1.2.3.4.5.6.7.8.9.', np.uint8)[::2]
  assert own_files.checksum(digits) == 0xCBF43926
