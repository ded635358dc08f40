"""One score matrix while it is filled: what is open, what is finished."""
import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from jaxret import sharding


class Filling:
  """Writes finished tiles to a matrix, one tile behind the device.

  A cell is NaN until it is scored; a tile is open while one of its cells is.
  A tile that a kill has cut in half is therefore open as a whole, and is
  computed again as a whole.

  Args:
    name: for the progress bar.
    matrix: float32 [R, C], often a memory map; None on all processes but 0,
      which alone reads and writes it.
    keep: bool [R, C], the cells that are wanted; None = all.
    rows_of, columns_of: int arrays, the blocks of a grid of tiles.
  """

  def __init__(self, name, matrix, keep, rows_of, columns_of):
    self.matrix, self.keep, self.tokens = matrix, keep, 0
    self._flops, self._pending = 0.0, None
    table = np.zeros((len(rows_of), len(columns_of)), np.int64)
    if matrix is not None:
      for r, rows in enumerate(rows_of):
        strip = self._open_cells(rows)
        table[r] = [strip[:, columns].sum() for columns in columns_of]
    if jax.process_count() > 1:
      # No process but 0 needs to see its disk.
      table = np.asarray(multihost_utils.broadcast_one_to_all(table))
    self._open = table > 0
    self._bar = tqdm(total=int(table.sum()), desc=name, unit=' pairs',
                     unit_scale=True, disable=jax.process_index() != 0)

  def _open_cells(self, rows):
    cells = np.isnan(self.matrix[rows])
    return cells if self.keep is None else cells & self.keep[rows]

  def is_open(self, r, c):
    return bool(self._open[r, c])

  def put(self, rows, columns, values, tokens, flops):
    """A tile of values on the device, [P, n or more] for rows [n].

    columns: int [C], or [P, C] if each row has its own. tokens, flops: what
    it took. The values are fetched when the next tile has been started.
    """
    self.tokens += tokens
    self._flops += flops
    self._finish()
    self._pending = rows, columns, values

  def _finish(self):
    if self._pending is None:
      return
    rows, columns, values = self._pending
    self._pending = None
    columns = np.atleast_2d(columns)
    values = sharding.to_host(values)[:len(rows), :columns.shape[1]]
    columns = np.broadcast_to(columns[:len(rows)], values.shape)
    if not np.isfinite(values).all():
      row, column = np.argwhere(~np.isfinite(values))[0]
      raise ValueError(
          f'the score of row {rows[row]}, column {columns[row, column]} is '
          f'{values[row, column]}: check the weights and the features')
    if self.matrix is None:
      return
    place = rows[:, None], columns
    new = np.isnan(self.matrix[place])
    if self.keep is not None:
      new &= self.keep[place]
    # Cells that an earlier run has scored, with other tiles, keep their value.
    self.matrix[place] = np.where(new, values, self.matrix[place])
    self._bar.set_postfix_str(self._speed(), refresh=False)
    self._bar.update(int(new.sum()))

  def _speed(self):
    seconds = self._bar.format_dict['elapsed']
    return f'{self._flops / max(seconds, 1e-9):.3g} FLOP/s'

  def close(self):
    """Finishes the last tile; returns how many tokens were computed."""
    try:
      self._finish()
    finally:
      self._bar.close()
    return self.tokens
