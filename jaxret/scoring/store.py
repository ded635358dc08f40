"""Score matrices on disk: what is finished stays finished."""
import json
import pathlib

import numpy as np

from jaxret import files


class Store:
  """A directory of float32 matrices that a killed run goes on filling.

  A cell is NaN until it is scored, so a half-written tile is simply computed
  again, whatever the tile size of the next run. `fingerprint` is a flat dict
  of what the scores depend on.

  Raises ValueError if the directory holds scores of another fingerprint; the
  message names the first field that differs.
  """

  def __init__(self, directory, fingerprint):
    self.directory = pathlib.Path(directory)
    self.directory.mkdir(parents=True, exist_ok=True)
    manifest = self.directory / 'manifest.json'
    if not manifest.exists():
      files.write_atomically(manifest, json.dumps(fingerprint, indent=1))
      return
    old = json.loads(manifest.read_text())
    for name in sorted({*old, *fingerprint}):
      if old.get(name) != fingerprint.get(name):
        raise ValueError(
            f'{self.directory} holds scores of other inputs: {name} was '
            f'{old.get(name)!r}, is {fingerprint.get(name)!r}; use another '
            'workdir or remove the directory')

  def matrix(self, name, shape):
    """A memory map, float32, NaN where nothing is scored yet."""
    path = self.directory / f'{name}.npy'
    if not path.exists():
      with files.replacing(path) as partial:
        fresh = np.lib.format.open_memmap(
            partial, mode='w+', dtype=np.float32,
            shape=tuple(map(int, shape)))
        fresh[:] = np.nan
        fresh.flush()
    return np.load(path, mmap_mode='r+')

  @staticmethod
  def is_open(matrix, keep=None):
    """Whether a cell is still to be scored; reads a few rows at a time."""
    step = max(1, 2 ** 24 // max(1, matrix[0].size))
    for first in range(0, len(matrix), step):
      cells = np.isnan(matrix[first:first + step])
      if (cells if keep is None else cells & keep[first:first + step]).any():
        return True
    return False
