"""Matrices whose rows are made when they are read."""
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import numpy as np

_BLOCK_CELLS = 1 << 19  # made at a time where a whole matrix is read
# Each holds some blocks, so that memory grows with them.
N_THREADS = min(16, os.cpu_count() or 1)


class Matrix:
  """A matrix [Q, C] that need not fit into memory: read it block by block.

  `np.asarray` makes all of it at once, which is for small ones.
  """

  def __init__(self, read: Callable[[Any], np.ndarray], shape: tuple[int, int],
               dtype: Any = np.float32) -> None:
    """read: from a slice or an int array [q] of rows to the rows [q, C]."""
    self._read, self.shape, self.dtype = read, tuple(shape), np.dtype(dtype)

  @property
  def ndim(self) -> int:
    return 2

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    """Rows; of a pair (rows, columns), the columns of one row or a slice.

    Raises IndexError for a row that there is not.
    """
    if isinstance(index, tuple):
      rows, columns = index
      if isinstance(rows, (int, np.integer, slice)):
        return self[rows][..., columns]
      rows, columns = np.broadcast_arrays(rows, columns)
      unique, place = np.unique(rows, return_inverse=True)
      return self[unique][place.reshape(rows.shape), columns]
    if isinstance(index, (int, np.integer)):
      if not -len(self) <= index < len(self):
        raise IndexError(f'row {index} of {len(self)}')
      index = int(index) % len(self)
      return self._read(slice(index, index + 1))[0]
    if isinstance(index, slice):
      return self._read(slice(*index.indices(len(self))))
    return self._read(np.asarray(index))

  def __iter__(self) -> Iterator[np.ndarray]:
    for _, block in blocks(self, _BLOCK_CELLS):
      yield from block

  def __array__(self, dtype: Any = None, copy: bool | None = None
                ) -> np.ndarray:
    if copy is False:
      raise ValueError('the rows are made when they are read: no array without '
                       'a copy')
    result = np.empty(self.shape, dtype or self.dtype)
    for rows, block in blocks(self, _BLOCK_CELLS):
      result[rows] = block
    return result


def matrix(scores: Any) -> Any:
  """What is read by rows as it is, anything else as an array."""
  return scores if isinstance(scores, Matrix) else np.asarray(scores)


def blocks(scores: Any, n_cells: int) -> Iterator[tuple[slice, np.ndarray]]:
  """Yields (slice of rows, these rows [q, C]), of at most `n_cells` or a row.

  scores: [Q, C], an array or a Matrix.
  """
  for rows in _slices(scores, n_cells):
    yield rows, scores[rows]


def mapped(function: Callable[[slice, np.ndarray], Any], scores: Any,
           n_cells: int) -> Iterator[Any]:
  """function(rows, block) of each of `blocks`, in order, made by threads.

  NumPy lets go of Python's lock while it works on a block.
  """
  slices = list(_slices(scores, n_cells))
  if len(slices) == 1:
    yield function(slices[0], scores[slices[0]])
    return
  # Not shut down, for the reason that reading.read_ahead gives.
  pool = futures.ThreadPoolExecutor(N_THREADS)
  yield from pool.map(lambda rows: function(rows, scores[rows]), slices)


def _slices(scores, n_cells):
  size = max(1, n_cells // max(1, scores.shape[1]))
  for start in range(0, len(scores), size):
    yield slice(start, min(start + size, len(scores)))
