"""Embeddings whose first numbers are embeddings, too."""
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jax import Array


def matryoshka(
    loss: Callable[[dict[str, Array]], Array], embeddings: Mapping[str, Array],
    dims: Sequence[int], weights: Sequence[float] = ()) -> Array:
  """Weighted sum of a loss of the prefixes of embeddings (arXiv 2205.13147).

  Args:
    loss: embeddings -> values.
    embeddings: {side: unit vectors [..., D]}.
    dims: how many numbers each prefix has, made a unit vector again; D is one
      of them where the whole is to be trained, too. () = the whole alone.
    weights: one for each; () = 1.
  """
  if not dims:
    return loss(dict(embeddings))
  values = [weight * loss({side: prefix(vectors, dim)
                           for side, vectors in embeddings.items()})
            for dim, weight in zip(dims, weights or (1.0,) * len(dims),
                                   strict=True)]
  return sum(values[1:], values[0])


def prefix(vectors: Array, dim: int) -> Array:
  """The first `dim` numbers of unit vectors [..., D], as unit vectors."""
  if dim == vectors.shape[-1]:
    return vectors
  part = vectors[..., :dim]
  square = jnp.sum(part * part, -1, keepdims=True)
  return part / jnp.sqrt(jnp.maximum(square, 1e-24))  # 0 stays 0
