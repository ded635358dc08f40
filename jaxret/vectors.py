"""Vectors and hits with their ids: in, out, and to the tools of others.

  media = model.encode(items, ids=names, on_error='skip')   Vectors
  found = model.search(model.encode(['a dog'], ids=['q1']), media, k=10)
  found.to_pandas()
  media.to_parquet('media.parquet')
  index = media.to_faiss()
"""
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxret import files, sentence_names
from jaxret.data import types
from jaxret.scoring import trec

if TYPE_CHECKING:
  import pandas

IDS = '.ids.json'  # behind the name of an index whose keys are row numbers


class Vectors:
  """N vectors and the ids of what they are of.

  ids: N texts, each once. vectors: [N, D], float32 or codes of a precision.
  NumPy takes it for `vectors`.
  """

  def __init__(self, ids: Iterable[Any], vectors: np.ndarray):
    self.ids, self.vectors = tuple(map(str, ids)), np.asarray(vectors)
    check_ids(self.ids, len(self.vectors))

  def __len__(self) -> int:
    return len(self.ids)

  def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
    return iter(zip(self.ids, self.vectors))

  def __array__(self, dtype: Any = None, copy: bool | None = None
                ) -> np.ndarray:
    return np.array(self.vectors, dtype, copy=copy)

  def __repr__(self) -> str:
    return f'Vectors({len(self)} x {self.vectors.shape[1:]})'

  def to_pandas(self) -> 'pandas.DataFrame':
    """A row for each: its id, and its vector as an array."""
    import pandas
    return pandas.DataFrame({'id': self.ids, 'vector': list(self.vectors)})

  def to_parquet(self, path: str | os.PathLike) -> None:
    """Writes columns `id` (text) and `vector` (D numbers)."""
    import pyarrow as pa
    flat = pa.array(np.ascontiguousarray(self.vectors).reshape(-1))
    _write_parquet(path, {
        'id': pa.array(self.ids, pa.string()),
        'vector': pa.FixedSizeListArray.from_arrays(
            flat, self.vectors.shape[1])})

  @classmethod
  def from_parquet(cls, path: str | os.PathLike) -> 'Vectors':
    """What `to_parquet` wrote. Raises ValueError for other columns."""
    import pyarrow.parquet as pq
    table = pq.read_table(path)
    lacking = {'id', 'vector'} - set(table.column_names)
    if lacking:
      raise ValueError(f'{path}: got the columns '
                       f'{", ".join(table.column_names)}, want id and vector')
    column = table['vector'].combine_chunks()
    return cls(table['id'].to_pylist(), column.flatten().to_numpy(
        zero_copy_only=False).reshape(len(table), -1))

  def to_faiss(self, path: str | os.PathLike | None = None) -> Any:
    """An exact faiss index of inner products, keys are the numbers of rows.

    path: where it is written as well, and the ids beside it, in <path>.ids.json
    in the order of the rows.
    """
    import faiss
    self._check_floats('faiss')
    index = faiss.IndexFlatIP(self.vectors.shape[1])
    index.add(np.ascontiguousarray(self.vectors))
    self._keep(path, lambda part: faiss.write_index(index, str(part)))
    return index

  def to_usearch(self, path: str | os.PathLike | None = None, **options: Any
                 ) -> Any:
    """A usearch index of inner products, keys and path as of `to_faiss`.

    options: of usearch's Index, connectivity say.
    """
    from usearch.index import Index
    self._check_floats('usearch')
    index = Index(ndim=self.vectors.shape[1], metric='ip', dtype='f32',
                  **options)
    index.add(np.arange(len(self), dtype=np.uint64),
              np.ascontiguousarray(self.vectors))
    self._keep(path, lambda part: index.save(str(part)))
    return index

  def _check_floats(self, tool):
    if self.vectors.dtype != np.float32:
      raise ValueError(f'{tool}: got vectors of {self.vectors.dtype}, want '
                       "float32: encode with precision='float32'")

  def _keep(self, path, write):
    if path is None:
      return
    path = pathlib.Path(path)
    with files.replacing(path) as part:
      write(part)
    files.write_atomically(path.with_name(path.name + IDS), json.dumps(
        self.ids, ensure_ascii=False) + '\n')


class Found:
  """The best candidates of each query, best first.

  scores: float32 [Q, k], -inf where there are fewer. ids: object [Q, k], None
  there. query_ids: Q texts. It unpacks to (scores, ids).
  """

  def __init__(self, scores: np.ndarray, ids: np.ndarray,
               query_ids: Sequence[str]):
    self.scores, self.ids, self.query_ids = scores, ids, tuple(query_ids)

  def __iter__(self) -> Iterator[np.ndarray]:
    return iter((self.scores, self.ids))

  def __repr__(self) -> str:
    return f'Found({self.scores.shape[0]} queries, best {self.scores.shape[1]})'

  def to_dict(self) -> dict[str, list[tuple[str, float]]]:
    """{query: [(candidate, score)]}."""
    return {name: [(one, float(score)) for one, score in zip(ids, scores)
                   if one is not None]
            for name, ids, scores in zip(
                self.query_ids, self.ids, self.scores)}

  def to_pandas(self) -> 'pandas.DataFrame':
    """A row for each hit: query, candidate, rank from 1, score."""
    import pandas
    return pandas.DataFrame(self._columns())

  def to_parquet(self, path: str | os.PathLike) -> None:
    """The same as a file."""
    _write_parquet(path, self._columns())

  def to_trec(self, path: str | os.PathLike, tag: str = 'jaxret') -> None:
    """Writes `query Q0 candidate rank score tag`; trec.read_run reads it.

    Ids are percent-encoded where a field cannot hold them, see scoring.trec.
    """
    columns = self._columns()
    trec.write_hits(path, zip(
        columns['query'], columns['candidate'], columns['rank'],
        columns['score']), tag)

  def _columns(self):
    rows, places = np.nonzero(self.ids != np.array(None))
    return {'query': [self.query_ids[row] for row in rows],
            'candidate': self.ids[rows, places].tolist(),
            'rank': (places + 1).tolist(),
            'score': self.scores[rows, places]}


def check_ids(ids: Sequence[str], count: int) -> None:
  """Raises ValueError for another number of ids, or one that is there twice."""
  if len(ids) != count:
    raise ValueError(f'ids: got {len(ids)} for {count} items; want one each')
  if len(set(ids)) != len(ids):
    seen: set[str] = set()
    twice = next(one for one in ids if one in seen or seen.add(one))
    raise ValueError(f'ids: got {twice!r} twice; want each once')


def with_ids(items: Any, ids: Sequence[Any], alone: bool) -> list:
  """Items that errors call by their ids; one alone is a list of it.

  What is no item stays as it is.
  """
  items = [items] if alone else list(items)
  check_ids(list(map(str, ids)), len(items))
  return [_named(item, str(name)) for item, name in zip(items, ids)]


def _named(item, name):
  if isinstance(item, types.Item):
    return dataclasses.replace(item, id=name)
  if isinstance(item, str):
    return {'text': item, 'id': name}
  return {**item, 'id': name} if isinstance(item, dict) else item


def usable(ids: Sequence[Any], vectors: np.ndarray) -> Vectors:
  """Vectors less the rows of items that were skipped."""
  kept = np.flatnonzero(~_skipped(vectors))
  return Vectors([ids[row] for row in kept], vectors[kept])


def search(find: Callable[..., tuple[np.ndarray, np.ndarray]], queries: Any,
           candidates: Any, k: int, exclude: Sequence[np.ndarray] | None
           ) -> Any:
  """(scores, indices) of arrays, Found of Vectors.

  find: (queries, candidates, k, exclude) -> (scores, indices) of whole ones. A
  row that is all NaN is of an item that was skipped: as a candidate it is never
  found, as a query it finds nothing (-inf and -1).
  """
  given = np.atleast_2d(sentence_names.not_codes(np.asarray(queries)))
  of = sentence_names.not_codes(np.asarray(candidates))
  asked, there = ~_skipped(given), ~_skipped(of)
  kept = np.flatnonzero(there)
  if exclude is not None and not there.all():
    place = np.cumsum(there) - 1
    exclude = [place[own[there[own]]] for own in map(np.asarray, exclude)]
  if exclude is not None and not asked.all():
    exclude = [own for own, one in zip(exclude, asked) if one]
  scores = np.full((len(given), k), -np.inf, np.float32)
  indices = np.full((len(given), k), -1, np.int64)
  if asked.any() and len(kept):
    best = find(given[asked], of if there.all() else of[there], k,
                exclude=exclude)
    scores[asked] = best[0]
    indices[asked] = np.where(best[1] < 0, -1, kept[best[1]])
  elif len(of) == 0:
    raise ValueError('search: there are no candidates')
  if not isinstance(candidates, Vectors):
    return scores, indices
  most = min(k, len(of))
  names = np.append(np.array(candidates.ids, object), [None])
  return Found(scores[:, :most], names[indices[:, :most]], getattr(
      queries, 'ids', range(len(given))))


def _skipped(rows):
  """bool [N]: rows that are all NaN; few are looked at whole."""
  if rows.ndim != 2 or not rows.size or rows.dtype.kind != 'f':
    return np.zeros(len(rows), bool)
  found = np.isnan(rows[:, 0])
  found[found] = np.isnan(rows[found]).all(1)
  return found


def _write_parquet(path, columns):
  import pyarrow as pa
  import pyarrow.parquet as pq
  with files.replacing(path) as part:
    pq.write_table(pa.table(columns), part)
