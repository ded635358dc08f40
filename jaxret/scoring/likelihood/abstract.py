"""The programs of exhaustive scoring, lowered for arrays that are not there.

They are those of `kernels` that `likelihood` runs, for one block of rows and
one tile. A tile takes what its block's prefix program puts out, so that one is
compiled first and handed on, see `outputs`.
"""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxret import sharding
from jaxret.scoring.likelihood import kernels


class Shapes(NamedTuple):
  """rows x columns of a tile, and what they are made of.

  rows: a multiple of the mesh's batch shards. visual_prefix, text_prefix,
  labels: tokens. videos, texts: of the whole set. features: of one video,
  (clips, tokens, width).
  """
  rows: int
  columns: int
  visual_prefix: int
  text_prefix: int
  labels: int
  videos: int
  texts: int
  features: tuple[int, int, int]


def outputs(lowered, compiled):
  """What a program puts out, placed as it places it."""
  return jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=place),
      lowered.out_info, compiled.output_shardings)


def visual_prefix(model, params, mesh, shapes):
  """-> (first, cache) of a block of videos."""
  with jax.set_mesh(mesh):
    return kernels.visual_prefix.lower(
        model, params, _shared(mesh, jnp.int32, shapes.visual_prefix),
        _dealt(mesh, jnp.float16, shapes.rows, *shapes.features))


def prompts(model, params, mesh, batch):
  """-> (last, cache, position) of prompts of their own; batch: placed shapes.
  """
  with jax.set_mesh(mesh):
    return jax.jit(kernels.start, static_argnums=0).lower(model, params, batch)


def next_token(model, params, mesh, last):
  """-> first, what a tile takes of such prompts besides their cache."""
  with jax.set_mesh(mesh):
    return kernels.next_token.lower(model, params, last)


def text_tile(model, params, mesh, shapes, prefix):
  """Captions that share nothing after the videos of a block."""
  count, length = shapes.columns, shapes.labels - 1
  ints = functools.partial(_shared, mesh, jnp.int32)
  tokens = count * length
  inputs = ints(1, tokens), ints(tokens), ints(count, length), ints(tokens)
  with jax.set_mesh(mesh):
    return kernels.text_tile.lower(
        model, True, params, *prefix, _dealt(mesh, jnp.int32, shapes.rows),
        inputs, ints(1, count, shapes.labels), ints(1, count))


def text_prefix(model, params, mesh, shapes):
  """-> (last, cache) of a block of texts."""
  ints = functools.partial(_dealt, mesh, jnp.int32, shapes.rows)
  with jax.set_mesh(mesh):
    return kernels.text_prefix.lower(
        model, params, ints(shapes.text_prefix), ints(shapes.text_prefix),
        ints())


def clip_tile(model, params, mesh, shapes, prefix):
  """The clips of some videos after the texts of a block."""
  clips, _, width = shapes.features
  inputs = jax.eval_shape(
      model.clip_tokens, params,
      jax.ShapeDtypeStruct((shapes.columns, *shapes.features), jnp.float16))
  with jax.set_mesh(mesh):
    return kernels.clip_tile.lower(
        model, params,
        _dealt(mesh, jnp.float32, shapes.rows, shapes.videos), prefix[1],
        _dealt(mesh, jnp.int32, shapes.rows),
        _shared(mesh, inputs.dtype, 1, shapes.columns, clips - 1,
                inputs.shape[-1]),
        _shared(mesh, jnp.int32, 1, shapes.columns),
        _shared(mesh, jnp.float32, shapes.videos, clips, width))


def _dealt(mesh, dtype, *shape):
  return jax.ShapeDtypeStruct(
      shape, dtype, sharding=sharding.batch_sharding(mesh))


def _shared(mesh, dtype, *shape):
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.replicated(mesh))
