"""Qwen3-VL's vision tower: Qwen2-VL's with a learned table of positions.

Source: Qwen3-VL technical report (arXiv 2511.21631); checked against golden
data. The table is stretched over each slice, and what some blocks give leaves
the tower by mergers of its own (DeepStack).
"""
import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.models import layers
from jaxret.models.qwen2_vl import vision as qwen2_vl

MEAN = STD = 0.5  # of pixels from 0 to 1


@dataclasses.dataclass(frozen=True)
class VisionConfig(qwen2_vl.VisionConfig):
  """As Qwen2-VL's; the defaults are those of the published 8B.

  positions: entries of the table, the square of its side. deepstack: the
  blocks whose outputs are merged for the decoder, besides the last one's.
  """
  width: int = 1152
  layers: int = 27
  mlp_width: int = 4304
  patch_px: int = 16
  positions: int = 2304
  deepstack: tuple[int, ...] = (8, 16, 24)

  def __post_init__(self):
    super().__post_init__()
    if math.isqrt(self.positions) ** 2 != self.positions:
      raise ValueError(f'vision tower: got {self.positions} positions, want a '
                       'square: the table has as many rows as columns')
    if list(self.deepstack) != sorted({
        block for block in self.deepstack if 0 <= block < self.layers}):
      raise ValueError(
          f'vision tower: got the DeepStack blocks {self.deepstack}, want some '
          f'of its {self.layers} blocks in ascending order')

  @property
  def mergers(self):
    return 1 + len(self.deepstack)

  def module(self):
    return VisionTower(self)


def pixel_values(patches):
  """uint8 [..., 1536] -> float32 from -1 to 1."""
  return (patches.astype(jnp.float32) / 255 - MEAN) / STD


def stretched(place, count, side):
  """Where `place` of `count` lies in a table of `side`, ends on ends, float32.

  As torch.linspace gives it, from either end. place, count: int [...].
  """
  step = (side - 1) / jnp.maximum(count - 1, 1).astype(jnp.float32)
  left = place.astype(jnp.float32) * step
  right = (side - 1) - (count - 1 - place).astype(jnp.float32) * step
  return jnp.where(2 * place < count, left, jnp.where(count > 1, right, 0))


def table_positions(table, coordinates):
  """Bilinear positions of patches, [..., W] in the table's dtype.

  table [S * S, W], row by row; coordinates int [..., 4]: row, column, and how
  many of either the slice has.
  """
  side = math.isqrt(len(table))
  place = stretched(coordinates[..., :2], coordinates[..., 2:], side)
  first = jnp.clip(place.astype(jnp.int32), 0, side - 1)
  second = jnp.minimum(first + 1, side - 1)
  far = place - first
  total = 0
  for row, of_row in ((first, 1 - far), (second, far)):
    for column, of_column in ((first, 1 - far), (second, far)):
      weight = (of_row[..., 0] * of_column[..., 1]).astype(table.dtype)
      index = row[..., 0] * side + column[..., 1]
      total += weight[..., None] * jnp.take(table, index, 0)
  return total


class Block(nn.Module):
  """Pre-norm attention and MLP; keeps what it gives where it is asked for.

  Carry: (x [R, P, W], kept [K + 1, R, P, W]); what no merger reads goes to the
  last of kept.
  """
  config: VisionConfig

  @nn.compact
  def __call__(self, carry, angle, segments, level):
    c, (x, kept) = self.config, carry
    attend_own = functools.partial(
        qwen2_vl.attend, segments=segments, block=qwen2_vl.QUERY_BLOCK,
        implementation=c.attention)
    x = x + qwen2_vl.Attention(c, name='attention')(
        c.norm('attention_norm')(x), angle, attend_own)
    x = x + Mlp(c, name='mlp')(c.norm('mlp_norm')(x))
    kept = jax.lax.dynamic_update_index_in_dim(kept, x, level, 0)
    return (x, kept), None


class Mlp(nn.Module):
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = c.dense(c.mlp_width, use_bias=True, name='in')(x)
    return c.dense(c.width, use_bias=True, name='out')(nn.gelu(x))


class Merger(nn.Module):
  """Four neighbouring patches into one token of the decoder's width.

  grouped_norm: whether they are normalised together, as those of DeepStack
  are, instead of each. The carry is there for scanning.
  """
  config: VisionConfig
  grouped_norm: bool = False

  @nn.compact
  def __call__(self, carry, x):
    c = self.config
    width = c.width * c.merge ** 2
    def group(x):
      return x.reshape(*x.shape[:-2], -1, width)
    norm = c.norm('norm')
    x = norm(group(x)) if self.grouped_norm else group(norm(x))
    x = c.dense(width, use_bias=True, name='in')(x)
    return carry, c.dense(c.out_width, use_bias=True, name='out')(
        nn.gelu(x, approximate=False))


class VisionTower(nn.Module):
  """Patches in, tokens out, and those of DeepStack."""
  config: VisionConfig

  def setup(self):
    c = self.config
    self.patch = c.dense(c.width, use_bias=True)
    self.positions = self.param(
        'positions', nn.initializers.normal(0.02), (c.positions, c.width),
        c.param_dtype)
    self.blocks = layers.scan_layers(
        Block, c.layers, remat=c.remat,
        in_axes=(nn.broadcast, nn.broadcast, 0))(c)
    self.merger = Merger(c)
    if c.deepstack:
      self.deepstack = layers.scan_layers(
          Merger, len(c.deepstack), in_axes=(0,))(c, True)

  def embed(self, patches, coordinates):
    """Patches [R, P, 1536] with their places in the table, [R, P, W]."""
    if jnp.issubdtype(patches.dtype, jnp.integer):
      patches = pixel_values(patches)
    table = self.positions.astype(self.config.dtype)
    return self.patch(patches) + table_positions(table, coordinates)

  def hidden(self, patches, segments, coordinates):
    """What the last block gives, [R, P, W], and the others, [K, R, P, W].

    patches: [R, P, 1536], the values of one in the order channel, time, row,
    column; float (normalised) or uint8. segments: int [R, P], which slice a
    patch belongs to; padding is a segment of its own. coordinates: int
    [R, P, 4], see `table_positions`.
    """
    c = self.config
    x = self.embed(patches, coordinates)
    angle = qwen2_vl.angles(coordinates[..., :2], c.width // c.heads)
    count = len(c.deepstack)
    level = jnp.array([c.deepstack.index(block) if block in c.deepstack
                       else count for block in range(c.layers)])
    kept = jnp.zeros((count + 1, *x.shape), x.dtype)
    (x, kept), _ = self.blocks((x, kept), angle, segments, level)
    return x, kept[:count]

  def __call__(self, patches, segments, coordinates):
    """Tokens [R, P / merge ** 2, D] and DeepStack's [K, R, P / ..., D]."""
    x, kept = self.hidden(patches, segments, coordinates)
    tokens = self.merger(None, x)[1]
    if not self.config.deepstack:
      return tokens, jnp.zeros((0, *tokens.shape), tokens.dtype)
    return tokens, self.deepstack(None, kept)[1]

