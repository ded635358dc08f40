"""Retrieval from pools that mix modalities, with an instruction per query."""
import dataclasses
from typing import NamedTuple

from jaxret.data import types

GROUPS = ('single-modal queries', 'multi-modal queries')
MODALITIES = ('text', 'image', 'image,text')


class Pair(NamedTuple):
  """A training query and its answer, as pairs.Pair with what MM-Embed needs.

  instruction: what the query is told, '' = none. negative: an item that is no
  answer, or None.
  """
  query: types.Item
  candidate: types.Item
  target_modality: str
  negative: types.Item | None = None
  instruction: str = ''


class Query(NamedTuple):
  """One training query before its answer is chosen.

  instructions: its variants. positives: ids of all answers that are labelled.
  """
  item: types.Item
  instructions: tuple[str, ...]
  positives: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Task:
  """Queries whose answers are found in one pool, or in all of a benchmark.

  instructions[q]: what query q is told, '' = nothing.
  relevant[q]: {candidate id: grade above 0}; the ids may be of any pool. It is
    empty where the answers are not public.
  pool: the name of its own pool. modality: of its answers.
  depth: k of the number that is reported, as hit rate or nDCG.
  excluded[q]: ids of candidates that are never an answer. None = none.
  """
  name: str
  queries: tuple[types.Item, ...]
  instructions: tuple[str, ...]
  relevant: tuple[dict[str, int], ...]
  pool: str
  modality: str
  depth: int = 5
  excluded: tuple[tuple[str, ...], ...] | None = None

  @property
  def is_composed(self):
    """Whether its queries are of several modalities each."""
    return ',' in modality(self.queries[0])


class Benchmark(NamedTuple):
  """Tasks and their pools.

  pools: {name: candidates}; several of them together are the union pool, each
    candidate as often as it stands in them.
  union: whether every query is also compared with the union.
  """
  name: str
  pools: dict[str, tuple[types.Item, ...]]
  tasks: tuple[Task, ...]
  union: bool = True


def modality(item):
  """'text', 'image' or 'image,text'."""
  return ','.join(name for name in ('image', 'text', 'video')
                  if getattr(item, name) is not None)
