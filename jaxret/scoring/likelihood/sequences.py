"""Suffixes behind prompts of their own: how they are laid out, and scored.

The prompts of a tile are rows, read once; suffixes that all rows want are one
token trie, which computes what they begin with alike once, and others lie in
a rectangle. All sizes are of a few steps, so that like calls compile nothing.
"""
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.scoring.likelihood import kernels, tiles, tries

# Steps of sizes per octave: of what goes through the layers, and of the rest.
FINE, COARSE = 8, 4


class Tile(NamedTuple):
  """C suffixes, and what kernels.token_tile takes of them.

  index: int [C], the suffixes' numbers, of all rows; or [P, C], of each.
  real: bool like index, False where a place is only filled.
  inputs, labels, lengths: as for kernels.token_tile.
  """
  index: np.ndarray
  real: np.ndarray
  inputs: tuple[np.ndarray, ...]
  labels: np.ndarray
  lengths: np.ndarray

  @property
  def tokens(self):
    """How many go through the layers in each row, padding included."""
    return self.inputs[0].shape[1]


def shared(labels, columns):
  """Tiles of suffixes that every row wants, about `columns` of them each.

  Args:
    labels: int arrays, the tokens of each suffix, all different.

  Returns:
    List of Tile; it depends on the set of the labels and not on their order,
    but for the numbers.
  """
  found = []
  alone = sorted((i for i, label in enumerate(labels) if len(label) == 1),
                 key=lambda i: labels[i][0])
  if alone:  # the prompt tells them all
    found.append(_rectangle(labels, np.array([_filled(alone)]), 1, len(alone)))
  rest = [i for i, label in enumerate(labels) if len(label) > 1]
  if rest:
    found += [_of_trie(trie, np.array(rest)) for trie in tries.tries(
        [labels[i] for i in rest], columns)]
  return found


def _of_trie(trie, numbers):
  trie = tries.padded(
      trie, count=tiles.rounded(len(trie.labels), COARSE),
      size=tiles.rounded(len(trie.tokens), FINE),
      length=1 + tiles.rounded(trie.labels.shape[1] - 1, COARSE))
  count = len(trie.index)
  index = np.resize(numbers[trie.index], len(trie.labels))
  return Tile(index, np.arange(len(index)) < count,
              (trie.tokens[None], trie.depth, trie.chains, trie.place),
              trie.labels[None], trie.lengths[None])


def _filled(numbers):
  return tiles.fill(numbers, tiles.rounded(len(numbers), COARSE))


def own(labels, wanted, columns):
  """Tiles of rows that want suffixes of their own, at most `columns` of each.

  Args:
    labels: int arrays, the tokens of each suffix.
    wanted: int arrays, the numbers of those that each of the P rows wants.

  Returns:
    List of Tile.
  """
  # One token is no input; chains of like lengths lie together.
  caps = {i: 1 + tiles.rounded(len(labels[i]) - 1, COARSE // 2)
          for row in wanted for i in row}
  found = []
  for cap in sorted(set(caps.values())):
    rows = [[i for i in row if caps[i] == cap] for row in wanted]
    some = next(row[0] for row in rows if row)
    longest = max(map(len, rows))
    for start in range(0, longest, columns):
      parts = [row[start:start + columns] for row in rows]
      size = min(tiles.rounded(max(map(len, parts)), COARSE), columns)
      index = np.array([tiles.fill(part or [some], size) for part in parts])
      found.append(_rectangle(
          labels, index, cap, np.array([[len(part)] for part in parts])))
  return found


def _rectangle(labels, index, length, counts):
  """The Tile of index [1 or P, C]; the first `counts` of a row are real."""
  tokens, stacked, lengths, chains, place, depth = tries.rectangle(
      labels, index, length)
  real = np.arange(index.shape[1]) < counts
  if len(index) == 1:
    index, real = index[0], np.reshape(real, -1)
  return Tile(index, real, (tokens, depth, chains, place), stacked, lengths)


def read(model, params, mesh, batch):
  """What kernels.token_tile takes of P prompts: (first, cache, start).

  model: a kernels.Continuation. batch: NumPy arrays, a row each; the same on
  all processes.
  """
  with jax.set_mesh(mesh):
    return kernels.prefix(model, params, {
        name: sharding.constant(mesh, array)
        for name, array in batch.items()})


def score(model, params, mesh, prefix, tile):
  """log P of the tokens of a Tile behind prompts, float32 [P, C, L]."""
  tokens, *layout = tile.inputs
  tokens, labels, lengths = (
      put(mesh, x) for x in (tokens, tile.labels, tile.lengths))
  with jax.set_mesh(mesh):
    return kernels.token_tile(
        model, params, *prefix, (tokens, *layout), labels, lengths)


def put(mesh, array):
  """On the mesh: rows of its own for each prompt, or [1, ...] for all."""
  return (sharding.replicate if len(array) == 1 else sharding.constant)(
      mesh, array)
