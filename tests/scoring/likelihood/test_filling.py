"""A matrix while it is filled: which tiles are open, which cells change."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import filling, packing

COLUMNS = tuple(packing.Tile(np.array(c)) for c in ([0, 3], [1, 2]))
STRIPS = [packing.Strip(np.array(rows), 4, 1, COLUMNS)
          for rows in ([0, 1], [2])]


def values(rows, columns):
  """What a tile has at each of its cells, with surplus rows below."""
  tile = 10.0 * np.asarray(rows)[:, None] + np.asarray(columns)
  return np.concatenate([tile, np.full((2, tile.shape[1]), -1)]).astype(
      np.float32)


def fill(matrix, strips=STRIPS):
  """Puts all open tiles; returns their (s, t)."""
  sheet = filling.Filling('test', matrix, strips)
  done = []
  for s, strip in enumerate(strips):
    for t, tile in enumerate(strip.tiles):
      if sheet.is_open(s, t):
        sheet.put(s, t, values(strip.rows, tile.columns), 5, 7.0)
        done.append((s, t))
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


def own_columns(real):
  """One strip whose rows have columns of their own, one row twice."""
  return [packing.Strip(np.array([0, 1, 0]), 4, 1, (packing.Tile(
      np.array([[0, 3], [3, 0], [1, 0]]), np.array(real, bool)),))]


def test_rows_may_have_columns_of_their_own():
  matrix = np.full((3, 4), np.nan, np.float32)
  assert fill(matrix, own_columns([[1, 1], [1, 1], [1, 0]])) == [(0, 0)]
  wanted = np.full((3, 4), np.nan)
  wanted[0, [0, 1, 3]] = 0, 1, 3
  wanted[1, [0, 3]] = 10, 13
  np.testing.assert_array_equal(matrix, wanted)


def test_what_is_not_real_is_neither_written_nor_looked_at():
  strips = own_columns([[1, 0], [0, 0], [0, 0]])
  matrix = np.full((3, 4), np.nan, np.float32)
  sheet = filling.Filling('test', matrix, strips)
  tile = np.full((4, 2), np.nan, np.float32)
  tile[0, 0] = 7
  sheet.put(0, 0, tile, 1, 1.0)
  sheet.close()
  assert matrix[0, 0] == 7 and np.isnan(matrix).sum() == 11
  assert not filling.Filling('test', matrix, strips).is_open(0, 0)


def test_nothing_is_open_where_there_is_nothing():
  assert fill(np.full((3, 4), np.nan, np.float32), []) == []


def test_values_are_fetched_one_tile_later():
  """The device is busy with the next tile by then."""
  matrix = np.full((3, 4), np.nan, np.float32)
  sheet = filling.Filling('test', matrix, STRIPS)
  rows, columns = [strip.rows for strip in STRIPS], COLUMNS[0].columns
  sheet.put(0, 0, values(rows[0], columns), 1, 1.0)
  assert np.isnan(matrix).all()
  sheet.put(1, 0, values(rows[1], columns), 1, 1.0)
  assert matrix[1, 3] == 13 and np.isnan(matrix[2]).all()
  sheet.close()
  assert matrix[2, 3] == 23


@pytest.mark.parametrize('bad', [np.nan, -np.inf])
def test_a_score_that_is_no_number_is_named(bad):
  sheet = filling.Filling('test', None, STRIPS)
  tile = values(STRIPS[0].rows, COLUMNS[1].columns)
  tile[1, 0] = bad
  sheet.put(0, 1, tile, 1, 1.0)
  with pytest.raises(ValueError, match='score of row 1, column 1 is'):
    sheet.close()
