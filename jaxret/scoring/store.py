"""Score matrices on disk: what is finished stays finished, and is as written.
"""
import json
import pathlib

import numpy as np
from absl import logging

from jaxret import files, own_files

CHUNK = 1024  # cells of a row that share a checksum


class Store:
  """A directory of float32 matrices that a killed run goes on filling.

  A cell is NaN until it is scored, so a half-written tile is simply computed
  again, whatever the tile size of the next run. `fingerprint` is a flat dict
  of what the scores depend on. Each run of 1,024 cells of a row has a checksum
  in a file beside the matrix; where the two disagree, since a bit was flipped
  or the process was killed between the two, the cells are open again.

  Raises ValueError if the directory holds scores of another fingerprint (the
  message names the first field that differs) or a damaged file.
  """

  def __init__(self, directory, fingerprint):
    self.directory = pathlib.Path(directory)
    self.directory.mkdir(parents=True, exist_ok=True)
    manifest = self.directory / 'manifest.json'
    if not manifest.exists():
      files.write_atomically(manifest, json.dumps(fingerprint, indent=1))
      return
    old = own_files.read_object(manifest, 'remove its directory, and the '
                                'scores are computed again')
    for name in sorted({*old, *fingerprint}):
      if old.get(name) != fingerprint.get(name):
        raise ValueError(
            f'{self.directory} holds scores of other inputs: {name} was '
            f'{old.get(name)!r}, is {fingerprint.get(name)!r}; use another '
            'workdir or remove the directory')

  def matrix(self, name, shape):
    """A memory map, float32, NaN where nothing is scored yet.

    What is assigned to its cells (`matrix[...] = values`) is checksummed.
    Raises ValueError for a file of another size, shape or type.
    """
    shape = tuple(map(int, shape))
    path = self.directory / f'{name}.npy'
    of_sums = self.directory / f'{name}.crc32.npy'
    if not path.exists():
      # First the sums, of nothing: a kill in between leaves no matrix.
      _create(of_sums, np.uint32, (shape[0], _chunks(shape)), 0)
      _create(path, np.float32, shape, np.nan)
    matrix = own_files.read_array(path, np.float32, shape, mode='r+'
                                  ).view(ScoreMatrix)
    if not of_sums.exists():
      raise ValueError(f'{path} has no checksums ({of_sums.name}): it is of an '
                       'earlier version, or they were lost; remove it, and the '
                       'scores are computed again')
    matrix.sums = own_files.read_array(
        of_sums, np.uint32, (shape[0], _chunks(shape)),
        f'remove it and {path.name}, and the scores are computed again',
        mode='r+')
    _open_what_differs(path, matrix)
    return matrix

  @staticmethod
  def is_open(matrix, keep=None):
    """Whether a cell is still to be scored; reads a few rows at a time."""
    step = max(1, 2 ** 24 // max(1, matrix[0].size))
    for first in range(0, len(matrix), step):
      cells = np.isnan(matrix[first:first + step])
      if (cells if keep is None else cells & keep[first:first + step]).any():
        return True
    return False


class ScoreMatrix(np.memmap):
  """A memory map [R, ...] that keeps a checksum of what is assigned.

  sums: uint32 [R, chunks], 0 of a chunk where nothing is scored; None of a
  part of a matrix, to which nothing may be assigned.
  """
  sums: np.ndarray | None = None

  def __array_finalize__(self, whole):
    super().__array_finalize__(whole)
    self.sums = None

  def __setitem__(self, place, values):
    assert self.sums is not None, 'assign to the matrix, not to a part of it'
    super().__setitem__(place, values)
    rows, chunks = _touched(self.shape, place)
    for row in rows:
      self.sums[row, chunks] = _sums(np.asarray(self[row]), chunks)

  def flush(self):
    """Returns when cells and checksums are on disk."""
    super().flush()
    if self.sums is not None:
      self.sums.flush()


def _create(path, dtype, shape, value):
  with files.replacing(path) as partial:
    fresh = np.lib.format.open_memmap(
        partial, mode='w+', dtype=dtype, shape=shape)
    fresh[:] = value
    fresh.flush()


def _chunks(shape):
  """How many checksums a row has."""
  return max(1, -(-int(np.prod(shape[1:], dtype=np.int64)) // CHUNK))


def _touched(shape, place):
  """(rows, chunks), int arrays, of all cells of an index of NumPy's."""
  if getattr(place, 'ndim', 0) == len(shape) == 2:  # which of all cells
    place = np.nonzero(place)
  parts = place if isinstance(place, tuple) else (place,)
  rows = np.unique(np.arange(shape[0])[parts[0]])
  if len(parts) == 2 and len(shape) == 2:
    return rows, np.unique(np.arange(shape[1])[parts[1]] // CHUNK)
  return rows, np.arange(_chunks(shape))


def _sums(row, chunks):
  """The checksums of some chunks of a row; 0 where all cells are open."""
  row = row.reshape(-1)
  parts = (row[chunk * CHUNK:(chunk + 1) * CHUNK] for chunk in chunks)
  return [0 if np.isnan(part).all() else own_files.checksum(part)
          for part in parts]


def _open_what_differs(path, matrix):
  """Opens the cells whose checksum is another, and says how many."""
  every, count = np.arange(matrix.sums.shape[1]), 0
  for number in range(len(matrix)):
    row = np.array(matrix[number]).reshape(-1)
    wrong = np.flatnonzero(matrix.sums[number] != _sums(row, every))
    if not wrong.size:
      continue
    count += wrong.size
    for chunk in wrong:
      row[chunk * CHUNK:(chunk + 1) * CHUNK] = np.nan
    matrix[number] = row.reshape(matrix.shape[1:])
  if count:
    logging.warning(
        '%s: %d of %d parts do not have their checksum, since the run was '
        'killed or the file is damaged: they are computed again', path, count,
        matrix.sums.size)
