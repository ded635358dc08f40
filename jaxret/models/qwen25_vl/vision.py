"""Qwen2.5-VL's vision tower: windows in most blocks, whole slices in a few.

Source: Qwen2.5-VL (arXiv 2502.13923); checked against golden data. It differs
from Qwen2-VL's in its windows, norms and MLP. The patches of a window follow
each other (data.qwen2_vl.layout), so that one needs to look no further than a
window's length to either side.
"""
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxret.models import attention as attention_lib
from jaxret.models import layers, masks
from jaxret.models.qwen2_vl import vision

# Windows whose queries are compared with the same keys.
WINDOWS_AT_ONCE = 2


@dataclasses.dataclass(frozen=True)
class VisionConfig(vision.VisionConfig):
  """Sizes and numerics of the tower; the defaults are the published ones.

  window_px: the side of a window. full_blocks: the blocks, counted from 0, in
  which a patch sees its whole slice. tokens_per_second: by how much the
  decoder's positions of a video grow in a second.
  """
  mlp_width: int = 3420
  window_px: int = 112
  full_blocks: tuple[int, ...] = (7, 15, 23, 31)
  tokens_per_second: float = 2

  def __post_init__(self):
    super().__post_init__()
    if self.window_px < self.patch_px * self.merge:
      raise ValueError(
          f'vision tower: windows of {self.window_px} pixels, tokens of '
          f'{self.patch_px * self.merge}; want windows of one token at least')
    if not self.tokens_per_second > 0:
      raise ValueError(f'vision tower: got tokens_per_second = '
                       f'{self.tokens_per_second}, want more than 0')
    wrong = [block for block in self.full_blocks
             if not 0 <= block < self.layers]
    if wrong:
      raise ValueError(f'vision tower: block {wrong[0]} is to see all, there '
                       f'are {self.layers}; want numbers from 0')

  mlp_kernels = 3

  @property
  def window_tokens(self):
    """The side of a window in tokens."""
    return self.window_px // self.patch_px // self.merge

  @property
  def window_patches(self):
    """Patches of a window that is not at an edge."""
    return (self.window_tokens * self.merge) ** 2

  def norm(self, name):
    return layers.RMSNorm(self.norm_eps, self.param_dtype, name=name)

  def attended(self, segment):
    full = len(set(self.full_blocks))
    return (full * segment + (self.layers - full) * min(
        segment, self.window_patches)) / self.layers

  def module(self):
    return VisionTower(self)


def windows(segments, coordinates, side):
  """The number of the window of each patch, int [R, P].

  segments int [R, P], coordinates int [R, P, 2], in an order in which the
  patches of a window follow each other. side: of a window, in patches.
  """
  own = jnp.concatenate([segments[..., None], coordinates // side], -1)
  new = jnp.any(own[:, 1:] != own[:, :-1], -1)
  return jnp.pad(jnp.cumsum(new, 1), ((0, 0), (1, 0)))


def attend_near(query, key, value, segments, reach, implementation='xla'):
  """Attention among equal segments that are at most `reach` long.

  query, key, value [R, P, N, H], segments int [R, P], each of them without a
  gap -> float32 [R, P, N, H]. No query is compared with more than
  (WINDOWS_AT_ONCE + 2) * reach keys.
  """
  rows, length = segments.shape
  block = WINDOWS_AT_ONCE * reach
  if length <= block + 2 * reach:
    return vision.attend(query, key, value, segments, length, implementation)
  blocks = -(-length // block)
  def padded(x, before, after, fill=0):
    room = [(0, 0)] * x.ndim
    room[1] = (before, after + blocks * block - length)
    return jnp.pad(x, room, constant_values=fill)
  def split(x):  # [R, blocks * block, ...] -> [R * blocks, block, ...]
    return x.reshape(-1, block, *x.shape[2:])
  def around(x, fill=0):  # -> [R * blocks, block + 2 reach, ...]
    x = padded(x, reach, reach, fill)
    shifted = [x[:, start:start + blocks * block] for start in (0, 2 * reach)]
    first, last = map(split, shifted)
    return jnp.concatenate([first, last[:, block - 2 * reach:]], 1)
  @jax.checkpoint
  def part(query, key, value, segments):
    rule = masks.Segments(split(padded(segments, 0, 0, -1)),
                          around(segments, -1))
    return attention_lib.attention(
        split(padded(query, 0, 0)), around(key), around(value), rule,
        implementation=implementation)[0]
  out = part(query, key, value, segments)
  return out.reshape(rows, blocks * block, *query.shape[2:])[:, :length]


class Block(nn.Module):
  """Pre-norm attention and MLP; returns (x, None), as scanning wants it."""
  config: VisionConfig

  @nn.compact
  def __call__(self, x, angle, segments, own_windows, full):
    c = self.config
    def attend(*heads):
      return jax.lax.cond(
          full,
          lambda *heads: vision.attend(
              *heads, segments, vision.QUERY_BLOCK, c.attention),
          lambda *heads: attend_near(
              *heads, own_windows, c.window_patches, c.attention), *heads)
    x = x + vision.Attention(c, name='attention')(
        c.norm('attention_norm')(x), angle, attend)
    return x + Mlp(c, name='mlp')(c.norm('mlp_norm')(x)), None


class Mlp(nn.Module):
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    dense = functools.partial(c.dense, use_bias=True)
    gate = nn.silu(dense(c.mlp_width, name='gate')(x))
    return dense(c.width, name='down')(
        gate * dense(c.mlp_width, name='up')(x))


class VisionTower(vision.VisionTower):
  """Patches in, tokens out; the patches of a window follow each other."""
  config: VisionConfig

  def stacked_blocks(self):
    c = self.config
    shared = (nn.broadcast,) * 3
    return layers.scan_layers(
        Block, c.layers, remat=c.remat, in_axes=(*shared, 0))(c)

  def run_blocks(self, x, angle, segments, coordinates):
    c = self.config
    full = np.isin(np.arange(c.layers), c.full_blocks)
    own_windows = windows(
        segments, coordinates, c.window_tokens * c.merge)
    return self.blocks(x, angle, segments, own_windows, jnp.asarray(full))[0]
