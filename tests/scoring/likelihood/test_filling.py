"""A matrix while it is filled: which tiles are open, which cells change."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import filling

ROWS = [np.array([0, 1]), np.array([2])]
COLUMNS = [np.array([0, 3]), np.array([1, 2])]


def values(rows, columns):
  """What a tile has at each of its cells, with surplus rows below."""
  tile = 10.0 * np.asarray(rows)[:, None] + np.asarray(columns)
  return np.concatenate([tile, np.full((2, tile.shape[1]), -1)]).astype(
      np.float32)


def fill(matrix, keep=None):
  """Puts all open tiles; returns their (r, c)."""
  sheet = filling.Filling('test', matrix, keep, ROWS, COLUMNS)
  done = []
  for r, rows in enumerate(ROWS):
    for c, columns in enumerate(COLUMNS):
      if sheet.is_open(r, c):
        sheet.put(rows, columns, values(rows, columns), 5, 7.0)
        done.append((r, c))
  assert sheet.close() == 5 * len(done)
  return done


def test_every_cell_is_filled_with_its_own_value():
  matrix = np.full((3, 4), np.nan, np.float32)
  assert fill(matrix) == [(0, 0), (0, 1), (1, 0), (1, 1)]
  np.testing.assert_array_equal(
      matrix, [[10 * r + c for c in range(4)] for r in range(3)])
  assert not fill(matrix)  # nothing is open


def test_a_tile_is_open_while_one_cell_is_and_the_others_stay():
  matrix = np.full((3, 4), 99, np.float32)
  matrix[1, 3] = matrix[2, 1] = np.nan
  assert fill(matrix) == [(0, 0), (1, 1)]
  wanted = np.full((3, 4), 99.0)
  wanted[1, 3], wanted[2, 1] = 13, 21
  np.testing.assert_array_equal(matrix, wanted)


def test_what_is_not_kept_is_not_written():
  keep = np.zeros((3, 4), bool)
  keep[0, 1] = keep[0, 3] = True
  matrix = np.full((3, 4), np.nan, np.float32)
  assert fill(matrix, keep) == [(0, 0), (0, 1)]
  np.testing.assert_array_equal(~np.isnan(matrix), keep)
  assert matrix[0, 1] == 1 and matrix[0, 3] == 3


def test_rows_may_have_columns_of_their_own():
  matrix = np.full((3, 4), np.nan, np.float32)
  sheet = filling.Filling('test', matrix, None, ROWS, COLUMNS)
  sheet.put(ROWS[0], np.array([[0, 3], [3, 0]]),
            np.array([[1, 2], [3, 4]], np.float32), 1, 1.0)
  sheet.close()
  np.testing.assert_array_equal(matrix[0, [0, 3]], [1, 2])
  np.testing.assert_array_equal(matrix[1, [0, 3]], [4, 3])


def test_values_are_fetched_one_tile_later():
  """The device is busy with the next tile by then."""
  matrix = np.full((3, 4), np.nan, np.float32)
  sheet = filling.Filling('test', matrix, None, ROWS, COLUMNS)
  sheet.put(ROWS[0], COLUMNS[0], values(ROWS[0], COLUMNS[0]), 1, 1.0)
  assert np.isnan(matrix).all()
  sheet.put(ROWS[1], COLUMNS[0], values(ROWS[1], COLUMNS[0]), 1, 1.0)
  assert matrix[1, 3] == 13 and np.isnan(matrix[2]).all()
  sheet.close()
  assert matrix[2, 3] == 23


@pytest.mark.parametrize('bad', [np.nan, -np.inf])
def test_a_score_that_is_no_number_is_named(bad):
  sheet = filling.Filling('test', None, None, ROWS, COLUMNS)
  tile = values(ROWS[0], COLUMNS[1])
  tile[1, 0] = bad
  sheet.put(ROWS[0], COLUMNS[1], tile, 1, 1.0)
  with pytest.raises(ValueError, match='score of row 1, column 1 is'):
    sheet.close()
