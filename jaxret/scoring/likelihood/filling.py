"""One score matrix while it is filled: what is open, what is finished."""
import jax
import numpy as np
from tqdm import tqdm

from jaxret import processes, sharding


class Filling:
  """Writes finished tiles to a matrix, one tile behind the device.

  A cell is NaN until it is scored; a tile is open while one of its cells is.
  A tile that a kill has cut in half is therefore open as a whole, and is
  computed again as a whole.

  Args:
    name: for the progress bar.
    matrix: float32 [R, C], often a memory map; None on all processes but 0,
      which alone reads and writes it.
    strips: packing.Strips.
    rows: names of the rows, for messages; None = they have none.
  """

  def __init__(self, name, matrix, strips, rows=None):
    self._rows = rows
    self.matrix, self.strips, self.tokens = matrix, strips, 0
    self._flops, self._pending = 0.0, None
    self._first = np.cumsum([0] + [len(strip.tiles) for strip in strips])
    counts = np.zeros(self._first[-1], np.int64)
    if matrix is not None:
      counts[:] = [np.isnan(matrix[_place(strip.rows, tile)]).sum()
                   for strip in strips for tile in strip.tiles]
    counts = processes.of_first(counts)  # the others need not see its disk
    self._open = counts > 0
    self._bar = tqdm(total=int(counts.sum()), desc=name, unit=' pairs',
                     unit_scale=True, disable=jax.process_index() != 0)

  def is_open(self, s, t):
    return bool(self._open[self._first[s] + t])

  def put(self, s, t, values, tokens, flops):
    """Tile t of strip s: values on the device, [n or more, C or more].

    tokens, flops: what it took. The values are fetched when the next tile has
    been started.
    """
    self.tokens += tokens
    self._flops += flops
    self._finish()
    self._pending = self.strips[s].rows, self.strips[s].tiles[t], values

  def _finish(self):
    if self._pending is None:
      return
    rows, tile, values = self._pending
    self._pending = None
    place = _place(rows, tile)
    values = sharding.to_host(values)[:len(rows), :tile.columns.shape[-1]]
    values = values.reshape(-1) if tile.real is None else values[tile.real]
    if not np.isfinite(values).all():
      bad = int(np.argmin(np.isfinite(values)))
      row = place[0][bad]
      named = '' if self._rows is None else f'{self._rows[row]}: '
      raise ValueError(
          f'{named}the score of row {row}, column {place[1][bad]} is '
          f'{values[bad]}: check the weights and the features')
    if self.matrix is None:
      return
    # Cells that an earlier run has scored, with other tiles, keep their value.
    new = np.isnan(self.matrix[place])
    self.matrix[place[0][new], place[1][new]] = values[new]
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


def _place(rows, tile):
  """(rows, columns), int [N] each, of the cells that a tile fills."""
  shape = len(rows), tile.columns.shape[-1]
  place = (np.broadcast_to(rows[:, None], shape),
           np.broadcast_to(tile.columns, shape))
  if tile.real is None:
    return tuple(x.reshape(-1) for x in place)
  return tuple(x[tile.real] for x in place)
