"""Matrices that are made by rows: what an array would give."""
import numpy as np
import pytest

from jaxret import by_rows

VALUES = np.arange(30, dtype=np.float32).reshape(6, 5)


def make():
  """(Matrix, the indices that it was read with)."""
  read = []
  def rows(index):
    read.append(index)
    return VALUES[index]
  return by_rows.Matrix(rows, VALUES.shape), read


@pytest.mark.parametrize('index', [
    3, -1, np.int64(2), slice(1, 4), slice(None), slice(-2, None),
    slice(0, 6, 2), [4, 0], np.array([5, 5, 1]), np.arange(6) > 3, (2, 3),
    (slice(1, 3), 4), (slice(None), slice(1, 3)),
    (np.array([4, 0, 4]), [1, 2, 3]),
    (np.array([[1], [4]]), np.array([[0, 2], [3, 3]]))])
def test_indices_are_those_of_an_array(index):
  found, want = make()[0][index], VALUES[index]
  np.testing.assert_array_equal(found, want)
  assert np.shape(found) == np.shape(want)


def test_rows_that_there_are_not_are_refused():
  for index in (6, -7):
    with pytest.raises(IndexError, match=f'row {index} of 6'):
      make()[0][index]


def test_a_matrix_is_read_in_blocks(monkeypatch):
  monkeypatch.setattr(by_rows, '_BLOCK_CELLS', 10)
  matrix, read = make()
  np.testing.assert_array_equal(matrix, VALUES, strict=True)
  assert read == [slice(0, 2, 1), slice(2, 4, 1), slice(4, 6, 1)]
  np.testing.assert_array_equal(list(matrix), VALUES)
  assert np.asarray(matrix, np.float64).dtype == np.float64
  with pytest.raises(ValueError, match='no array without a copy'):
    np.asarray(matrix, copy=False)


def test_of_an_array_blocks_are_views():
  for rows, block in by_rows.blocks(VALUES, 1):
    assert rows.stop == rows.start + 1 and np.shares_memory(block, VALUES)
  assert by_rows.matrix(VALUES) is VALUES
  matrix = make()[0]
  assert by_rows.matrix(matrix) is matrix
  assert (matrix.ndim, matrix.dtype, len(matrix)) == (2, np.float32, 6)
