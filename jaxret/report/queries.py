"""Every query of a run with its rank in each row: for the page, and kept.

`ranks.npz` of a workdir is what a later comparison of runs reads: JSON in
`about`, and int64 [R, Q] of each direction or task. A zip file holds a CRC-32
of each of its members, which is checked where it is read.
"""
import dataclasses
import io
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from jaxret import files
from jaxret.data import types

NAME = 'ranks.npz'
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
  """
  direction: str
  ids: Sequence[str]
  texts: Sequence[str]
  ranks: Mapping[str, np.ndarray]
  main: str
  deepest: int | None = None
  pool: str = ''

  @classmethod
  def of_items(cls, direction: str, items: Sequence[types.Item],
               ranks: Mapping[str, np.ndarray], main: str | None = None,
               deepest: int | None = None,
               candidates: Sequence[types.Item] = ()) -> Self:
    """Of the items that ask; main: the last row where it is not given."""
    ids = json.dumps([item.id for item in candidates]).encode()
    pool = f'{len(candidates):,} candidates, {zlib.crc32(ids):08x}'
    return cls(direction, [item.id for item in items],
               [item.text or '' for item in items], ranks,
               main if main in ranks else list(ranks)[-1], deepest,
               pool if candidates else '')

  def differ(self) -> np.ndarray:
    """Whether some rows find a query at once and others do not, bool [Q]."""
    found = np.stack([np.asarray(r) == 1 for r in self.ranks.values()])
    return found.any(0) & ~found.all(0)


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
                'deepest': q.deepest, 'pool': q.pool}
               for q in queries]}
  arrays = {str(i): np.stack([np.asarray(r, np.int64)
                              for r in q.ranks.values()])
            for i, q in enumerate(queries)}
  buffer = io.BytesIO()
  np.savez_compressed(
      buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8),
      **arrays)  # type: ignore[arg-type]
  files.write_atomically(pathlib.Path(workdir) / NAME, buffer.getvalue())


def load(workdir: str | os.PathLike) -> Kept:
  """What `save` wrote; ValueError in one line where there is none or damage."""
  path = pathlib.Path(workdir) / NAME
  if not path.is_file():
    raise ValueError(f'{workdir} holds no {NAME}, which a finished evaluation '
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
            one['pool'])
      return Kept(about['dataset'], about['split'], directions)
  except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error,
          zipfile.BadZipFile) as error:
    raise ValueError(f'{path} is damaged ({error}); {_REMEDY}') from error
