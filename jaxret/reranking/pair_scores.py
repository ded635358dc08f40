"""Log odds of many pairs: a query is read once, and each candidate behind it.

Pairs are tokenized whole. What a pair has of its query's head is read once for
all candidates; the rest is a suffix, one for all queries behind which a
candidate is said alike.
"""
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data import question_frames
from jaxret.data.qwen2_vl import pairs
from jaxret.models import reranking
from jaxret.reranking import media_features
from jaxret.scoring import pair_tiles


class Looked(NamedTuple):
  """A pairs.Shown, and the content keys of its media."""
  shown: pairs.Shown
  keys: tuple[str, ...]

  def media(self) -> dict[str, media_features.Medium]:
    """{key: Medium} of what it shows."""
    return {key: media_features.Medium(self.shown.id, *medium, grid)
            for key, medium, grid in zip(
                self.keys, self.shown.media, self.shown.grids)}


class Piece(NamedTuple):
  """Tokens of a pair, those of a head or a suffix.

  tokens int32 [T]; positions int32 [3, T], of a suffix from its start on.
  shown: whose media they show, in order. skipped: {kind: how many of their
  visual tokens stand before}.
  """
  tokens: np.ndarray
  positions: np.ndarray
  shown: tuple[Looked, ...]
  skipped: dict[str, int]

  def media(self) -> dict[str, media_features.Medium]:
    return {key: medium for one in self.shown
            for key, medium in one.media().items()}

  def put(self, visual, index, first, features, special):
    """Writes its visual tokens to rows `first` and on of [M, W] and [M]."""
    for kind, token in special.items():
      where = first + np.flatnonzero(self.tokens == token)
      stream = [features[key] for one in self.shown
                for key, its in zip(one.keys, one.shown.kinds) if its == kind]
      if len(where):
        skip = self.skipped.get(kind, 0)
        visual[where] = np.concatenate(stream)[skip:skip + len(where)]
        index[where] = where


class Question(NamedTuple):
  """What is asked of a pair."""
  frame: question_frames.QuestionFrame
  instruction: str | None


class Block(NamedTuple):
  """Q queries and what stands behind them.

  heads: a Piece of each. starts: int [Q], the position behind each. suffixes:
  the different ones; of: which candidate each says. wanted: for each query its
  suffixes.
  """
  heads: list[Piece]
  starts: np.ndarray
  suffixes: list[Piece]
  of: list[int]
  wanted: list[list[int]]


def block(reader: Any, question: Question, queries: Sequence[Looked],
          candidates: Sequence[Looked], wanted: Sequence[Sequence[int]]
          ) -> Block:
  """The Block of queries and the numbers of the candidates that each wants."""
  found = Block([], np.zeros(len(queries), np.int32), [], [], [])
  numbers: dict[tuple, int] = {}
  for row, (query, own) in enumerate(zip(queries, wanted)):
    head = reader.head(query.shown, *question)
    tokens = [reader.tokens(query.shown, candidates[c].shown, *question)
              for c in own]
    cut = min(pairs.shared(head, ids) for ids in tokens)
    before = {kind: int((head[:cut] == token).sum())
              for kind, token in reader.special.items()}
    positions = reader.positions(query.shown, candidates[own[0]].shown,
                                 tokens[0])
    found.starts[row] = start = positions[:, :cut].max() + 1
    found.heads.append(Piece(head[:cut], positions[:, :cut], (query,), {}))
    # Of a cut prompt what is behind the head may show the query's media too.
    whole = before == {kind: int((head == token).sum())
                       for kind, token in reader.special.items()}
    found.wanted.append([])
    for c, ids in zip(own, tokens):
      key = c, ids[cut:].tobytes(), None if whole else row
      if key not in numbers:
        numbers[key] = len(found.suffixes)
        where = reader.positions(query.shown, candidates[c].shown, ids)
        found.suffixes.append(Piece(
            ids[cut:], where[:, cut:] - start,
            (candidates[c],) if whole else (query, candidates[c]),
            {} if whole else before))
        found.of.append(c)
      found.wanted[-1].append(numbers[key])
  return found


class Programs(NamedTuple):
  """The compiled parts of a config: of heads, and of suffixes behind them."""
  read: Callable
  score: Callable


@functools.lru_cache
def programs(config: Any) -> Programs:
  return Programs(
      jax.jit(functools.partial(reranking.read_queries, config)),
      jax.jit(functools.partial(reranking.log_odds, config)))


def read_heads(config, params, mesh, special, heads, features):
  """(decoder.Cache of Q or more heads, their arrays' rows).

  features: {key: [n, W]} of all their media. special: of the reader.
  """
  shards = sharding.batch_shards(mesh)
  count = shards * _power(-(-len(heads) // shards))
  size = pair_tiles.rounded(
      max(pair_tiles.LEAST, *(len(head.tokens) for head in heads)), 2)
  rows = heads + heads[-1:] * (count - len(heads))
  batch = {'tokens': np.zeros((count, size), np.int32),
           'positions': np.zeros((count, 3, size), np.int32),
           'length': np.array([len(head.tokens) for head in rows], np.int32)}
  for row, head in enumerate(rows):
    batch['tokens'][row, :len(head.tokens)] = head.tokens
    batch['positions'][row, :, :len(head.tokens)] = head.positions
  batch |= _visual(config, special, [[(head, 0)] for head in rows], size,
                   features)
  with jax.set_mesh(mesh):
    return programs(config).read(params, _put(mesh, batch))


def tile_batch(config, special, whole, tile, features):
  """The arrays of a pair_tiles.Tile of a Block, see reranking.log_odds."""
  lengths = [len(piece.tokens) for piece in whole.suffixes]
  layout = pair_tiles.lay_out(tile, lengths)
  shape = len(tile.queries), tile.tokens
  batch = {'row': tile.queries, 'start': whole.starts[tile.queries],
           'tokens': np.zeros(shape, np.int32),
           'positions': np.zeros((shape[0], 3, shape[1]), np.int32),
           'index': layout.index, 'place': layout.place, 'end': layout.end}
  placed = [[(whole.suffixes[s], first) for s, first in zip(row, starts)]
            for row, starts in zip(tile.suffixes, layout.at)]
  for row, pieces in enumerate(placed):
    for piece, first in pieces:
      last = first + len(piece.tokens)
      batch['tokens'][row, first:last] = piece.tokens
      batch['positions'][row, :, first:last] = piece.positions
  return batch | _visual(config, special, placed, tile.tokens, features)


def score_tile(config, params, mesh, cache, batch, words):
  """Starts what reranking.log_odds computes of a batch on the mesh."""
  with jax.set_mesh(mesh):
    return programs(config).score(
        params, cache, _put(mesh, batch), sharding.replicate(mesh, words))


def _visual(config, special, rows, size, features):
  """Visual tokens where they stand, {} where no row shows anything.

  rows: for each its pieces and the place of their first tokens.
  """
  if not any(piece.shown[0].keys or piece.shown[-1].keys
             for row in rows for piece, _ in row):
    return {}
  dtype = next(iter(features.values())).dtype
  visual = np.zeros((len(rows), size, media_features.width(config)), dtype)
  index = np.full((len(rows), size), -1, np.int32)
  for row, pieces in enumerate(rows):
    for piece, first in pieces:
      piece.put(visual[row], index[row], first, features, special)
  return {'visual': visual, 'visual_index': index}


def _put(mesh, batch):
  return {name: sharding.constant(mesh, array)
          for name, array in batch.items()}


def _power(number):
  return 1 << max(number - 1, 0).bit_length()
