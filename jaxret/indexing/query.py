"""`jaxret.open_index`: an index, and searches in it.

  index = jaxret.open_index('clips.index')
  for hit in index.search('a dog in the snow', k=5, kind='video'):
    print(hit.path, hit.start_s, hit.score)

The vectors stay on the devices from one search to the next; another thread may
search at the same time, and a run of jaxret.index may add to it meanwhile.
"""
import dataclasses
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxret import embedder, process_settings, sharding
from jaxret.data import types
from jaxret.indexing import hits as hits_lib
from jaxret.indexing import opening, places, second_look, store
from jaxret.scoring.embeddings import similarity

# Of the approximate index: parts that are looked at, and rows kept in each.
ANN_PROBES, ANN_LOOKED_AT = 16, 256


class _Version(NamedTuple):
  """The index as of one version. placed: its vectors."""
  rows: store.Rows
  placed: similarity.Placed


class Index:
  """An index that is open; see `open_index`.

  path: its directory, a pathlib.Path, or its URL. made: its store.Description.
  """

  def __init__(self, place: places.Place, made: store.Description,
               opener: opening.Opener, mesh: Mesh | None = None):
    self.path, self.name, self.made = place.path, place.name, made
    self._place = place
    self._opener, self._mesh = opener, mesh
    self._lock = threading.Lock()
    self._version: _Version | None = None
    self._table: store.Table | None = None

  def __repr__(self) -> str:
    return f'Index({self.path}, {len(self):,} rows, {self.made.model["name"]})'

  def __len__(self) -> int:
    if self._approximates():
      return len(self._opened())
    return len(self._newest().rows.said)

  @property
  def model(self) -> embedder.Embedder:
    """The model that it was made by, opened when it is needed."""
    with self._lock:
      return self._opener.model

  def refresh(self) -> bool:
    """Takes in what was indexed since; True where anything was."""
    with self._lock:
      if self._version is None or (
          store.newest(self._place) == self._version.rows.version):
        return False
      self._version = self._table = None
      return True

  def search(self, query: embedder.Given | Sequence[embedder.Given] |
             np.ndarray, k: int = 10, *, kind: str | None = None,
             folder: str | None = None, min_duration_s: float | None = None,
             max_duration_s: float | None = None, after: float | None = None,
             before: float | None = None, ann: bool | None = None,
             rerank: Any = None, likelihood: Any = None, candidates: int = 50,
             prompt: str | None = None) -> Any:
    """The k best rows for a query, as Hits, the best one first.

    Args:
      query: an item as Embedder.encode takes it, or a list of several; or
        vectors, float [D] or [Q, D] as it gives them.
      kind: 'image', 'video' or 'text'; folder: below it; min_duration_s,
        max_duration_s: of a video; after, before: when a file was changed, in
        seconds since 1970. None = all.
      ann: asks LanceDB's approximate index; None = beyond store.MOST_EXACT
        rows, where there is one.
      rerank: a Reranker, or what jaxret.load_reranker opens: looks at the best
        `candidates` again, see jaxret.rerank.
      likelihood: a Generator, a workdir of BLiM, or what jaxret.score_matrix
        takes as its model: ranks the best `candidates` by likelihood with CPN.
      candidates: how many are looked at again.
      prompt: of the query, as for Embedder.encode.

    Returns:
      [Hit], or a list of them for each of several queries.

    Raises:
      ValueError: for a query that the model cannot read, a filter that keeps
        nothing, and what cannot be looked at again.
    """
    if k < 1:
      raise ValueError(f'k is {k}; want 1 at least')
    second = second_look.chosen(rerank, likelihood, candidates, k)
    chosen = hits_lib.Filter(kind, folder, min_duration_s, max_duration_s,
                             after, before)
    items, alone = _items(query)
    if second and items is None:
      raise ValueError('a second look needs the query itself, got a vector')
    vectors = self._vectors(query if items is None else items, prompt)
    first = max(k, candidates) if second else k
    found = self._first(vectors, first, chosen, ann)
    if second:
      found = [second(one, own, self.item)[:k]
               for one, own in zip(items, found)]
    return found[0] if alone else found

  def vector(self, hit: hits_lib.Hit) -> np.ndarray:
    """The embedding of a hit, float32 [D], to search for what is like it."""
    rows = self._newest().rows
    if not 0 <= hit.row < len(rows.said) or (
        rows.said['path'][hit.row].as_py() != hit.path):
      raise ValueError(f'{hit.path}: the index has changed; search again')
    return np.asarray(rows.vectors[hit.row], np.float32)

  def of_file(self, number: int) -> list[hits_lib.Hit]:
    """All rows of a file, by its Hit.file; their score is NaN."""
    if self._approximates():
      said = self._opened().of_file(number)
      return [dataclasses.replace(hit, row=-1) for hit in hits_lib.of_rows(
          said, np.arange(len(said)), np.full(len(said), np.nan))]
    said = self._newest().rows.said
    rows = np.flatnonzero(said['file'].to_numpy() == number)
    return hits_lib.of_rows(said, rows, np.full(len(rows), np.nan))

  def file_of(self, hit: hits_lib.Hit) -> str | None:
    """The file of a hit, as long as it is one of the index; else None."""
    return hits_lib.file_of(hit, self.made.root, self.made.follow_links)

  def item(self, hit: hits_lib.Hit) -> types.Item:
    """What a model is shown of a hit; ValueError where its file is gone."""
    return hits_lib.item_of(hit, self.file_of(hit))

  def _vectors(self, query, prompt):
    """float32 [Q, D] of Items, or of vectors."""
    vectors = (np.atleast_2d(query) if isinstance(query, np.ndarray) else
               self.model.encode(query, prompt, show_progress=False))
    width = self.made.model['width']
    if vectors.shape[1] != width:
      raise ValueError(f'the query is {vectors.shape[1]} wide, {self.path} has '
                       f'vectors {width} wide')
    return vectors

  def _newest(self):
    with self._lock:
      if self._version is None:
        rows = store.read(self._place)
        if not len(rows.said):
          raise ValueError(f'{self.path}: the index is empty')
        self._version = _Version(rows, similarity.Placed(
            rows.vectors, self._mesh or sharding.local_mesh()))
      return self._version

  def _first(self, vectors, k, chosen, ann):
    """[Hits] of each query, by the embeddings."""
    if self._approximates() if ann is None else ann:
      return [self._near(vector, k, chosen) for vector in vectors]
    version = self._newest()
    keep = hits_lib.keep(version.rows.said, chosen)
    scores, rows = version.placed.search(vectors, k, keep=keep)
    return [hits_lib.of_rows(version.rows.said, *one)
            for one in zip(rows, scores)]

  def _approximates(self):
    """Whether there are more rows than are looked at one by one."""
    if self._version is not None or store.is_current(self._place):
      return False
    table = self._opened()
    return len(table) > store.MOST_EXACT and table.has_ann()

  def _opened(self):
    with self._lock:
      if self._table is None:
        self._table = store.Table(self._place, self.made)
      return self._table

  def _near(self, vector, k, chosen):
    """Hits by LanceDB's approximate index; their rows are not known."""
    table = self._opened()
    if not table.has_ann():
      raise ValueError(f'{self.path} has no approximate index; make it: jaxret '
                       'index ... --ann')
    found = table.nearest(vector, k, hits_lib.condition(chosen), ANN_PROBES,
                          max(ANN_LOOKED_AT, 2 * k))
    scores = 1 - found['_distance'].to_numpy()
    return [dataclasses.replace(hit, row=-1) for hit in hits_lib.of_rows(
        found.drop_columns(['_distance']), np.arange(len(found)), scores)]


def _items(query):
  """([Item] of what is searched for, whether it is one); None of vectors."""
  if isinstance(query, np.ndarray) and query.dtype.kind == 'f':
    return None, query.ndim == 1
  if embedder.is_one(query):
    query = {'text': query} if isinstance(query, str) else query
    query = {'id': 'the query', **query} if isinstance(query, dict) else query
    return [embedder.as_item(query, 0, 'the query')], True
  return [embedder.as_item(one, number, 'query')
          for number, one in enumerate(query)], False


def open_index(path: str | os.PathLike,
               model: str | os.PathLike | embedder.Embedder | None = None,
               mesh: Mesh | None = None, **options: Any) -> Index:
  """Opens an index that jaxret.index has made.

  Args:
    path: its directory, or s3://, gs:// or az:// BUCKET/NAME.
    model: the model that it was made by, an Embedder or what jaxret.load
      opens with **options; None = as the index names it.
    mesh: of this process's devices, which keep the vectors; default: all.

  Raises:
    ValueError: where no index is, and for another model than its own.
  """
  process_settings.keep_compiled_of_user()
  place = places.of(path)
  made = store.described(place)
  opener = (opening.of_description(place.path, made) if model is None
            else opening.of_index(place.path, made, model, options))
  return Index(place, made, opener, mesh)
