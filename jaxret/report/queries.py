"""Every query of a run with its rank in each row: for the page, and kept.

`ranks.npz` of a workdir is what a later comparison of runs reads: JSON in
`about`, and int64 [R, Q] of each direction or task, float64 [R, Q] of other
numbers. A zip file holds a CRC-32 of each of its members, which is checked
where it is read.
"""
import dataclasses
import io
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from jaxret import files
from jaxret.data import types

NAME = 'ranks.npz'
MOST_LISTED = 10_000  # queries of a direction or task, for the size of a page
_REMEDY = 'evaluate that workdir again'


@dataclasses.dataclass(frozen=True)
class Queries:
  """All Q queries of one direction or task.

  ids, texts: of each; a text is '' where the query is a medium alone.
  ranks: {row: int [Q]}, 1-based, in the order of the results, 0 where a row
    left the query out. main: the row by which they are found or missed.
  deepest: ranks beyond it are not known but as such; None = all are known.
  pool: stands for the candidates, of which runs that are compared must have the
    same; '' = not known.
  numbers: {name: {row: float [Q]}}, what is known of each query besides.
  """
  direction: str
  ids: Sequence[str]
  texts: Sequence[str]
  ranks: Mapping[str, np.ndarray]
  main: str
  deepest: int | None = None
  pool: str = ''
  numbers: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(
      default_factory=dict)

  @classmethod
  def of_items(cls, direction: str, items: Sequence[types.Item],
               ranks: Mapping[str, np.ndarray], main: str | None = None,
               deepest: int | None = None,
               candidates: Sequence[types.Item] = (), pool: str = '',
               numbers: Mapping[str, Mapping[str, np.ndarray]] | None = None
               ) -> Self:
    """Of the items that ask; main: the last row where it is not given.

    pool: of the candidates where they are not given.
    """
    return cls(direction, [item.id for item in items],
               [item.text or '' for item in items], ranks,
               main if main in ranks else list(ranks)[-1], deepest,
               pool or pool_of(item.id for item in candidates), numbers or {})

  def differ(self) -> np.ndarray:
    """Whether some rows find a query at once and others do not, bool [Q]."""
    found = np.stack([np.asarray(r) == 1 for r in self.ranks.values()])
    return found.any(0) & ~found.all(0)


def pool_of(names: Iterable[str]) -> str:
  """What stands for candidates: their number, and a sum of their names."""
  count = crc = 0
  for name in names:
    count, crc = count + 1, zlib.crc32(json.dumps(name).encode(), crc)
  return f'{count:,} candidates, {crc:08x}' if count else ''


def listed(queries: Queries) -> Iterator[tuple[str, str, str, list[str]]]:
  """Yields (text, id, classes, a cell per row) of the first queries.

  A rank that is not known is '>' and the last that is; '-' was left out.
  """
  ranks = np.stack([*queries.ranks.values()], 1)
  main = queries.ranks[queries.main]
  differ = queries.differ()
  deepest = queries.deepest or np.inf
  for q in range(min(len(queries.ids), MOST_LISTED)):
    kinds = 'found' if main[q] == 1 else 'missed'
    yield (queries.texts[q], queries.ids[q],
           f'{kinds} differ' if differ[q] else kinds,
           ['-' if not rank else f'>{queries.deepest}' if rank > deepest
            else str(rank) for rank in ranks[q].tolist()])


class Kept(NamedTuple):
  """What `ranks.npz` says: dataset and split, and {direction: Queries}."""
  dataset: str
  split: str
  directions: dict[str, Queries]


def save(workdir: str | os.PathLike, results: Mapping[str, Any],
         queries: Sequence[Queries]) -> None:
  """Writes ranks.npz; the same queries give the same bytes."""
  about = {'dataset': results['dataset'], 'split': results['split'],
           'directions': [
               {'direction': q.direction, 'ids': list(q.ids),
                'texts': list(q.texts), 'rows': list(q.ranks), 'main': q.main,
                'deepest': q.deepest, 'pool': q.pool,
                **({'numbers': {name: list(of)
                                for name, of in q.numbers.items()}}
                   if q.numbers else {})}
               for q in queries]}
  arrays = {str(i): np.stack([np.asarray(r, np.int64)
                              for r in q.ranks.values()])
            for i, q in enumerate(queries)}
  arrays |= {f'{i}.{name}': np.stack([np.asarray(r, np.float64)
                                      for r in of.values()])
             for i, q in enumerate(queries) for name, of in q.numbers.items()}
  buffer = io.BytesIO()
  np.savez_compressed(
      buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8),
      **arrays)  # type: ignore[arg-type]
  files.write_atomically(pathlib.Path(workdir) / NAME, buffer.getvalue())


def load(workdir: str | os.PathLike, name: str = NAME) -> Kept:
  """What `save` wrote; ValueError in one line where there is none or damage.

  name: of the file, where it was kept under another one.
  """
  path = pathlib.Path(workdir) / name
  if not path.is_file():
    raise ValueError(f'{workdir} holds no {name}, which a finished evaluation '
                     f'writes: {_REMEDY}')
  try:
    with np.load(path, allow_pickle=False) as stored:
      about = json.loads(stored['about'].tobytes())
      directions = {}
      for i, one in enumerate(about['directions']):
        ranks = stored[str(i)]
        if ranks.shape != (len(one['rows']), len(one['ids'])):
          raise ValueError(f'ranks {ranks.shape}')
        directions[one['direction']] = Queries(
            one['direction'], one['ids'], one['texts'],
            dict(zip(one['rows'], ranks)), one['main'], one['deepest'],
            one['pool'], _numbers(stored, i, one))
      return Kept(about['dataset'], about['split'], directions)
  except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error,
          zipfile.BadZipFile) as error:
    raise ValueError(f'{path} is damaged ({error}); {_REMEDY}') from error


def _numbers(stored, i, about):
  found = {}
  for name, rows in about.get('numbers', {}).items():
    values = stored[f'{i}.{name}']
    if values.shape != (len(rows), len(about['ids'])):
      raise ValueError(f'{name} {values.shape}')
    found[name] = dict(zip(rows, values))
  return found
