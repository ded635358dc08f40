"""DeepStack: visual features that enter a decoder behind its first layers.

Source: DeepStack (arXiv 2406.04334) as Qwen3-VL has it: the features of level
k are added to what layer k gives, at visual positions alone.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxret import sharding


class Visual(NamedTuple):
  """What is added behind the first K layers.

  features [K, B, M, D]: of the M visual tokens of each sequence; index int
  [B, T]: which of these a token shows, -1 for text.
  """
  features: jax.Array
  index: jax.Array

  def add_to(self, x, layer):
    """x [B, T, D] with what is added behind the layer of this number."""
    levels = len(self.features)

    def added(x):
      level = jax.lax.dynamic_index_in_dim(
          self.features, jnp.minimum(layer, levels - 1), 0, keepdims=False)
      placed = jnp.take_along_axis(
          sharding.split_rows(level), jnp.maximum(self.index, 0)[..., None], 1)
      shown = self.index[..., None] >= 0
      return x + jnp.where(shown, placed, 0).astype(x.dtype)
    # The layers are one scan: behind most of them there is nothing to add.
    return jax.lax.cond(layer < levels, added, lambda x: x, x)
