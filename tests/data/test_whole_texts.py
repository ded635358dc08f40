"""Padding of whole texts; the readers' tests say what is refused."""
import numpy as np

from jaxret.data import whole_texts


def test_rows_are_padded_on_the_right():
  batch = whole_texts.pad(
      [np.array([4], np.int32), np.array([5, 6], np.int32)], 3, 9)
  assert batch['tokens'].tolist() == [[4, 9, 9], [5, 6, 9]]
  assert batch['tokens'].dtype == batch['length'].dtype == np.int32
  assert batch['length'].tolist() == [1, 2]
