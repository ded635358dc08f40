"""Searches among stored embeddings, kept on disk once they are finished."""
import dataclasses
import hashlib
import pathlib

import numpy as np
from absl import logging

from jaxret import files
from jaxret.scoring.embeddings import similarity


def search(directory, rows, queries, k, mesh=None, excluded=None):
  """The k best rows for each query -> (scores float32, places int64) [Q, k].

  Args:
    directory: holds what was found before, under what it depends on.
    rows: embeddings.Rows that are searched; those left out are never found.
    queries: int64 [Q], where the queries lie in the same store.
    excluded: Q arrays of rows that are no answers, or None.
  Places are rows; where there are fewer than k, the rest is -inf and -1.
  """
  store = rows.store
  name = digest([k], queries, rows.index,
                *(() if excluded is None else excluded))
  path = pathlib.Path(directory) / store.directory.name / f'{name}.npz'
  found = _read(path, (len(queries), k))
  if found is not None:
    return found
  there = np.flatnonzero(rows.index >= 0)
  if excluded is not None:
    renumbered = np.full(len(rows), -1, np.int64)
    renumbered[there] = np.arange(len(there))
    new = [renumbered[indices] for indices in excluded]
    excluded = [indices[indices >= 0] for indices in new]
  logging.info('searching %d candidates for %d queries', len(there),
               len(queries))
  scores, places = similarity.search(
      store.read(queries), dataclasses.replace(rows, index=rows.index[there]),
      k, mesh, excluded)
  places = np.where(places < 0, -1, there[places])
  files.save_atomically(path, lambda file: np.savez(
      file, scores=scores, places=places))
  return scores, places


def _read(path, shape):
  """What is stored of a search, each part with zip's checksum; None if not."""
  if not path.is_file():
    return None
  try:
    with np.load(path) as stored:
      found = stored['scores'], stored['places']
    if found[0].shape == found[1].shape == shape:
      return found
    reason = f'shapes {found[0].shape}, {found[1].shape}, want {shape}'
  except Exception as error:  # a damaged zip raises almost any
    reason = str(error)
  logging.warning('%s is damaged (%s): the search is made again', path, reason)
  return None


def digest(*parts):
  """16 hex digits that stand for arrays of whole numbers."""
  total = hashlib.sha256()
  for part in parts:
    part = np.asarray(part, np.int64)
    total.update(str(part.shape).encode() + part.tobytes())
  return total.hexdigest()[:16]
