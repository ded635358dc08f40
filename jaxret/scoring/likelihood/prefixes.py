"""Texts behind prompts whose sizes differ, tile by tile on to a matrix.

As `score.score_texts`, for a model that reads prompts whole: each shows what it
shows at a size of its own, and has as many tokens as that takes.
"""
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.scoring.likelihood import (
  filling,
  kernels,
  layouts,
  packing,
  sequences,
)

# Tokens of prompts that a device reads together, padding included: what their
# keys, values and attention take is bounded however long prompts are.
TOKENS_AT_ONCE = 32768


class Prompts(NamedTuple):
  """P prompts, which are read when their tiles are scored.

  ids: of each, for messages. lengths: int [P], tokens of each. sizes: int
  [P, n], what its arrays are padded to besides, see data.qwen2_vl.reader.Shape.
  kinds: int [P], only prompts of one kind are read together.
  read: ([strip], [shape]) -> yields the arrays of each packing.Strip, its
    prompts padded to (tokens, *sizes).
  """
  ids: tuple[str, ...]
  lengths: np.ndarray
  sizes: np.ndarray
  kinds: np.ndarray
  read: Callable


def score(model, params, mesh, prompts, labels, cost, options, matrix,
          keep=None, name='text given prompt'):
  """Fills matrix [P, T] with the mean log P(token) of T texts, tile by tile.

  Returns how many tokens went through the decoder, padding included.

  Args:
    model: a kernels.Continuation. prompts: a Prompts.
    labels: int arrays, the scored tokens of each text, two at least.
    cost: a kernels.Cost, for the bar alone. name: what the bar says.
    options, matrix, keep: as for score.score_texts.
  """
  strips = _strips(prompts, labels, options, mesh, keep)
  sheet = filling.Filling(
      name, matrix, [one.strip for one in strips], prompts.ids)
  is_open = [[sheet.is_open(s, t) for t in range(len(one.strip.tiles))]
             for s, one in enumerate(strips)]
  needed = [s for s, tiles in enumerate(is_open) if any(tiles)]
  batches = prompts.read([strips[s].strip for s in needed],
                         [strips[s].shape for s in needed])
  for s, batch in zip(needed, batches):
    strip, inputs_of, _ = strips[s]
    prefix = sequences.read(model, params, mesh, batch)
    sheet.tokens += strip.size * strip.length
    for t in np.flatnonzero(is_open[s]):
      values, count = _tile(model, params, mesh, prefix, inputs_of(strip, t),
                            options.nonzero_denominator)
      work = strip.size * count
      sheet.put(s, int(t), values, work, work * (
          cost.token + strip.length * cost.key + cost.logits))
  return sheet.close()


def _tile(model, params, mesh, prefix, inputs, nonzero_denominator):
  """(means [P, C], tokens of each row that went through the layers)."""
  (tokens, *layout), labels, lengths = inputs
  on_mesh = [sequences.put(mesh, x) for x in (tokens, labels, lengths)]
  with jax.set_mesh(mesh):
    values = kernels.text_tile(
        model, nonzero_denominator, params, *prefix, (on_mesh[0], *layout),
        *on_mesh[1:])
  return values, tokens.shape[1]


class _Laid(NamedTuple):
  """A packing.Strip, what its tiles are, and what its prompts are padded to."""
  strip: NamedTuple
  inputs_of: Callable
  shape: tuple[int, ...]


def _strips(prompts, labels, options, mesh, keep):
  """[_Laid]: of one kind of prompts after the other, and of about one size."""
  room = TOKENS_AT_ONCE * sharding.batch_shards(mesh)
  options = options._replace(
      rows=max(1, min(options.rows, room // int(prompts.lengths.max()))))
  lay_out = _packed(labels, options, mesh, keep) if keep is not None else (
      _exhaustive(labels, prompts.lengths, options, mesh))
  found = []
  for rows in _alike(prompts):
    strips, inputs_of = lay_out(rows, prompts.lengths[rows])
    strips = [strip._replace(rows=rows[strip.rows]) for strip in strips]
    for strip in strips:
      # One shape for all strips of one length: few are compiled.
      sizes = [prompts.sizes[other.rows].max(0) for other in strips
               if other.length == strip.length]
      found.append(_Laid(strip, inputs_of, (
          strip.length, *map(int, np.max(sizes, 0)))))
  return found


def _exhaustive(labels, lengths, options, mesh):
  """Function of prompts int [n] and lengths -> (Strips, inputs of tiles).

  A prompt's padding is weighed against all tokens of its row, of which it may
  be half of `max_padding`: many texts make up for it, and few shapes occur.
  """
  (first,), inputs_of = layouts.captions(
      labels, options, mesh, np.ones(1, int), None)
  count = sum(inputs_of(first, t)[0][0].shape[1]
              for t in range(len(first.tiles)))
  options = options._replace(max_padding=options.max_padding / 2 * (
      1 + count / lengths.mean()))
  return lambda rows, own: (packing.grid(
      own, [tile.columns for tile in first.tiles],
      layouts.limits(options, mesh)), inputs_of)


def _packed(labels, options, mesh, keep):
  """The same of kept pairs alone."""
  return lambda rows, own: layouts.captions(
      labels, options, mesh, own, keep[rows])


def _alike(prompts):
  """[int [n]]: prompts of one kind whose other sizes are within an octave."""
  octaves = np.ceil(np.log2(np.maximum(prompts.sizes, 1))).astype(int)
  classes = np.concatenate([prompts.kinds[:, None], octaves], 1)
  _, number = np.unique(classes, axis=0, return_inverse=True)
  return [np.flatnonzero(number == i) for i in range(number.max() + 1)]
