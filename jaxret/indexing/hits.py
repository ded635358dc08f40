"""What a search finds, and which rows it may find."""
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxret.data import types
from jaxret.indexing import look, walk

KINDS = ('image', 'video', 'text')


class Filter(NamedTuple):
  """Which rows may be found; None = all. folder: below it, as paths have it;
  duration in seconds, of the whole video; changed: seconds since 1970, from
  `after` to before `before`.
  """
  kind: str | None = None
  folder: str | None = None
  min_duration_s: float | None = None
  max_duration_s: float | None = None
  after: float | None = None
  before: float | None = None


@dataclasses.dataclass(frozen=True)
class Hit:
  """One answer. path: as the index has it, below its root.

  start_s, end_s: the moment, of what lies in a video; None otherwise. score:
  the cosine of the embeddings. rerank, likelihood: of a second look, by which
  hits are then sorted; None without one. row: in the index as it was searched.
  file: the number of its file there, which stays as long as its content does.
  """
  path: str
  kind: str
  score: float
  start_s: float | None = None
  end_s: float | None = None
  duration_s: float | None = None
  caption: str | None = None
  text: str | None = None
  size: int = 0
  mtime_ns: int = 0
  rerank: float | None = None
  likelihood: float | None = None
  row: int = -1
  file: int = -1

  def to_json(self) -> dict[str, Any]:
    """What is known of it, for JSON."""
    return {name: value for name, value in dataclasses.asdict(self).items()
            if value is not None and name not in ('row', 'file')}


def keep(said: pa.Table, chosen: Filter) -> np.ndarray | None:
  """bool [C], the rows that a Filter keeps; None where it keeps all.

  Raises ValueError for a filter that is none, or that keeps nothing.
  """
  if chosen.kind is not None and chosen.kind not in KINDS:
    raise ValueError(f'kind is {chosen.kind!r}; want one of {", ".join(KINDS)}')
  masks = []
  if chosen.kind is not None:
    masks.append(pc.equal(said['kind'], chosen.kind))
  if chosen.folder is not None:
    folder = chosen.folder.replace(os.sep, '/').removeprefix('./').rstrip('/')
    if folder not in ('', '.'):
      masks.append(pc.starts_with(said['path'], folder + '/'))
  for column, least, most in (
      ('duration_s', chosen.min_duration_s, chosen.max_duration_s),):
    if least is not None:
      masks.append(pc.greater_equal(said[column], float(least)))
    if most is not None:
      masks.append(pc.less_equal(said[column], float(most)))
  if chosen.after is not None:
    masks.append(pc.greater_equal(said['mtime_ns'], int(chosen.after * 1e9)))
  if chosen.before is not None:
    masks.append(pc.less(said['mtime_ns'], int(chosen.before * 1e9)))
  if not masks:
    return None
  kept = np.ones(len(said), bool)
  for mask in masks:
    kept &= pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
  if not kept.any():
    wanted = ', '.join(f'{name} {value}' for name, value in
                       chosen._asdict().items() if value is not None)
    raise ValueError(f'nothing in the index has {wanted}')
  return kept


def condition(chosen: Filter) -> str | None:
  """The same as a condition of SQL, for LanceDB."""
  parts = []
  if chosen.kind is not None:
    parts.append(f'kind = {_quoted(chosen.kind)}')
  if chosen.folder is not None:
    folder = chosen.folder.replace(os.sep, '/').removeprefix('./').rstrip('/')
    if folder not in ('', '.'):
      parts.append(f'starts_with(path, {_quoted(folder + "/")})')
  for name, sign, value in (
      ('duration_s', '>=', chosen.min_duration_s),
      ('duration_s', '<=', chosen.max_duration_s)):
    if value is not None:
      parts.append(f'{name} {sign} {float(value)!r}')
  for sign, value in (('>=', chosen.after), ('<', chosen.before)):
    if value is not None:
      parts.append(f'mtime_ns {sign} {int(value * 1e9)}')
  return ' AND '.join(parts) or None


def _quoted(text):
  return "'" + text.replace("'", "''") + "'"


def of_rows(said: pa.Table, rows: np.ndarray, scores: np.ndarray
            ) -> list[Hit]:
  """Hits of some rows, in their order; rows below 0 are none."""
  there = [(int(row), float(score)) for row, score in zip(rows, scores)
           if row >= 0]
  said = said.select([field.name for field in dataclasses.fields(Hit)
                      if field.name in said.column_names])
  # To take several rows at once, pyarrow imports pandas, which is slow.
  return [Hit(**said.slice(row, 1).to_pylist()[0], score=score, row=row)
          for row, score in there]


def file_of(hit: Hit, root: str, follow_links: bool) -> str | None:
  """Where a hit's file lies, as long as it is one of the index; else None.

  A file may have been replaced by a link since it was indexed.
  """
  file = os.path.join(root, hit.path)
  if not os.path.isfile(file) or (
      not follow_links and walk.outside(file, root)):
    return None
  return file


def item_of(hit: Hit, file: str | None) -> types.Item:
  """What a model is shown of a hit; ValueError where its file is gone."""
  name = hit.path if hit.start_s is None else f'{hit.path} at {hit.start_s:g} s'
  if hit.kind == 'text':
    return types.Item(name, hit.text)
  if file is None:
    raise ValueError(f'{name}: no such file any more; run jaxret index again')
  if hit.kind == 'image':
    return types.Item(name, image=file)
  if hit.start_s is None or hit.end_s is None or hit.duration_s is None:
    return types.Item(name, video=file)
  return types.Item(name, video=look.medium(
      file, hit.start_s, hit.end_s, hit.duration_s))
