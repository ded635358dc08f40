"""Qwen2-VL's vision tower: patches of any resolution, slice by slice.

Source: Qwen2-VL (arXiv 2409.12191); checked against golden data. Rows of
patches hold one or several temporal slices (an image is one slice); a patch
attends to the patches of its own slice and to nothing else.
"""
import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxret.models import attention as attention_lib
from jaxret.models import layers, masks

# Of the original's image processor, per channel.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CHANNELS = 3
ROPE_THETA = 1e4
# Queries of a row at a time, which bounds the memory of scores and masks.
QUERY_BLOCK = attention_lib.QUERY_BLOCK


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """Sizes and numerics of the tower; the defaults are the published ones.

  width W; layers, heads and mlp_width of its blocks; out_width D, that of the
  decoder. A patch covers `patch_px` squared pixels of `temporal_patch` frames;
  `merge` squared patches become one token. `dtype` is that of the computation,
  `param_dtype` that of the stored weights. `attention`: see
  attention.check_attention.
  """
  out_width: int
  width: int = 1280
  layers: int = 32
  heads: int = 16
  mlp_width: int = 5120
  patch_px: int = 14
  temporal_patch: int = 2
  merge: int = 2
  norm_eps: float = 1e-6
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: str | bool = 'none'
  attention: str = 'xla'

  def __post_init__(self):
    if self.width % (4 * self.heads):
      raise ValueError(
          f'vision tower: width {self.width} with {self.heads} heads; want '
          'heads of a multiple of 4: rows and columns each rotate pairs')
    attention_lib.check_attention(
        self.attention, self.width // self.heads, self.dtype)

  # What data.qwen2_vl.layout.Layout has to know of a backbone.
  window_tokens = 0
  tokens_per_second = None
  mlp_kernels, mergers = 2, 1

  @property
  def patch_values(self):
    return CHANNELS * self.temporal_patch * self.patch_px ** 2

  def dense(self, features, **kwargs):
    return layers.Dense(features, dtype=self.dtype,
                        param_dtype=self.param_dtype, **kwargs)

  def norm(self, name):
    # The fast variance E[x^2] - E[x]^2 loses digits.
    return nn.LayerNorm(self.norm_eps, dtype=self.dtype,
                        param_dtype=self.param_dtype,
                        use_fast_variance=False, name=name)

  def attended(self, segment):
    """How many patches one attends to, of a slice of `segment`, on average."""
    return segment

  def module(self):
    return VisionTower(self)


def pixel_values(patches):
  """uint8 [..., 1176], channel first, -> float32, normalised per channel."""
  each = patches.shape[-1] // CHANNELS
  mean, std = (jnp.asarray(np.repeat(np.float32(values), each))
               for values in (MEAN, STD))
  return (patches.astype(jnp.float32) / 255 - mean) / std


def angles(coordinates, head_width):
  """Rotary angles of patches at (row, column); time has none.

  coordinates int [..., 2] -> float32 [..., H / 2]: a half for either.
  """
  quarter = head_width // 4
  frequency = ROPE_THETA ** -(jnp.arange(quarter, dtype=jnp.float32) / quarter)
  angle = coordinates[..., None].astype(jnp.float32) * frequency
  return angle.reshape(*coordinates.shape[:-1], 2 * quarter)


def attend(query, key, value, segments, block, implementation='xla'):
  """Attention among equal segments, for `block` queries at a time.

  query, key, value [R, P, N, H], segments int [R, P] -> float32 [R, P, N, H].
  The scores of a block are computed again in the backward pass.
  """
  return attention_lib.attention(
      query, key, value, masks.Segments(segments, segments),
      implementation=implementation, block=block)[0]


class Block(nn.Module):
  """Pre-norm attention and MLP; returns (x, None), as scanning wants it."""
  config: VisionConfig

  @nn.compact
  def __call__(self, x, angle, segments):
    c = self.config
    attend_own = functools.partial(
        attend, segments=segments, block=QUERY_BLOCK,
        implementation=c.attention)
    x = x + Attention(c, name='attention')(
        c.norm('attention_norm')(x), angle, attend_own)
    return x + Mlp(c, name='mlp')(c.norm('mlp_norm')(x)), None


class Attention(nn.Module):
  """attend: (query, key, value [R, P, N, H]) -> float32 like these."""
  config: VisionConfig

  @nn.compact
  def __call__(self, x, angle, attend):
    c = self.config
    qkv = c.dense(3 * c.width, use_bias=True, name='qkv')(x)
    qkv = qkv.reshape(*x.shape[:2], 3, c.heads, c.width // c.heads)
    query, key, value = (qkv[:, :, i] for i in range(3))
    out = attend(layers.rotate(query, angle), layers.rotate(key, angle), value)
    return c.dense(c.width, use_bias=True, name='out')(
        out.astype(c.dtype).reshape(x.shape))


class Mlp(nn.Module):
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = c.dense(c.mlp_width, use_bias=True, name='in')(x)
    x = x * nn.sigmoid(1.702 * x)  # quick GELU
    return c.dense(c.width, use_bias=True, name='out')(x)


class Merger(nn.Module):
  """Four neighbouring patches into one token of the decoder's width."""
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = c.norm('norm')(x)
    width = c.width * c.merge ** 2
    x = x.reshape(*x.shape[:-2], -1, width)
    x = c.dense(width, use_bias=True, name='in')(x)
    return c.dense(c.out_width, use_bias=True, name='out')(
        nn.gelu(x, approximate=False))


class VisionTower(nn.Module):
  """Patches in, tokens out."""
  config: VisionConfig

  def setup(self):
    c = self.config
    self.patch = c.dense(c.width)
    self.blocks = self.stacked_blocks()
    self.merger = Merger(c)

  def stacked_blocks(self):
    c = self.config
    return layers.scan_layers(
        Block, c.layers, remat=c.remat,
        in_axes=(nn.broadcast, nn.broadcast))(c)

  def run_blocks(self, x, angle, segments, coordinates):
    """What the last block makes of x [R, P, W]."""
    return self.blocks(x, angle, segments)[0]

  def hidden(self, patches, segments, coordinates):
    """What the last block gives, [R, P, W].

    patches: [R, P, 1176], the values of one in the order channel, time, row,
    column; float (normalised) or uint8. segments: int [R, P], which slice a
    patch belongs to; padding is a segment of its own. coordinates: int
    [R, P, 2], rows and columns.
    """
    c = self.config
    if jnp.issubdtype(patches.dtype, jnp.integer):
      patches = pixel_values(patches)
    angle = angles(coordinates, c.width // c.heads)
    return self.run_blocks(self.patch(patches), angle, segments, coordinates)

  def __call__(self, patches, segments, coordinates):
    """Tokens [R, P / merge ** 2, D], see `hidden`."""
    return self.merger(self.hidden(patches, segments, coordinates))


def flops_per_patch(config, segment):
  """Forward FLOPs of one patch of a slice of `segment`, mergers too."""
  c = config
  kernels = 4 * c.width + c.mlp_kernels * c.mlp_width
  block = 2 * c.width * kernels + 4 * c.width * c.attended(segment)
  merged = c.merge ** 2 * c.width
  return (c.layers * block + 2 * c.patch_values * c.width
          + c.mergers * 2 * merged * (merged + c.out_width) / c.merge ** 2)

