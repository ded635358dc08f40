"""UMT video tower: a ViT over short clips, with joint space-time attention.

Source: Li et al. 2023 (arXiv 2303.16058), as VideoChat-Flash runs it: patches
of single frames, fixed sin-cos positions, the last block left out.
"""
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxret.models import attention as attention_lib
from jaxret.models import layers
from jaxret.models.videochat import tome

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# PyTorch's bicubic kernel; Keys' -0.5, which JAX uses, gives other positions.
CUBIC_COEFFICIENT = -0.75
# Queries at a time: the scores of a clip take heads x QUERY_BLOCK x tokens
# floats.
QUERY_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """Sizes and numerics of the tower; the defaults are UMT-L at 448 px.

  layers L counts the blocks that run: the released tower has 24, of which the
  last is left out. `table_frames` and `table_grid` describe the position table
  of pre-training, which is resized to the frames and patches at hand. `dtype`
  is that of the computation, `param_dtype` that of the stored weights.
  `attention`: see attention.check_attention.
  """
  image_px: int = 448
  patch_px: int = 16
  n_frames: int = 4
  width: int = 1024
  layers: int = 23
  heads: int = 16
  mlp_width: int = 4096
  table_frames: int = 4
  table_grid: int = 14
  block_norm_eps: float = 1e-6
  final_norm_eps: float = 1e-12
  dtype: Any = 'float32'
  param_dtype: Any = 'float32'
  attention: str = 'xla'
  remat: str | bool = 'none'

  def __post_init__(self):
    for name, whole, part in (('image_px', self.image_px, self.patch_px),
                              ('width', self.width, self.heads)):
      if whole % part:
        raise ValueError(
            f'vision tower: {name} {whole} is no multiple of {part}')
    attention_lib.check_attention(
        self.attention, self.width // self.heads, self.dtype)

  @property
  def grid(self):
    return self.image_px // self.patch_px

  def dense(self, features, **kwargs):
    return layers.Dense(features, dtype=self.dtype,
                        param_dtype=self.param_dtype, **kwargs)

  def norm(self, eps, name):
    # The fast variance E[x^2] - E[x]^2 loses digits.
    return nn.LayerNorm(eps, dtype=self.dtype, param_dtype=self.param_dtype,
                        use_fast_variance=False, name=name)


def pixel_values(frames):
  """uint8 [..., H, W, 3] -> float32, normalised by ImageNet's statistics."""
  scaled = frames.astype(jnp.float32) / 255
  return (scaled - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)


def patches(pixels, patch_px):
  """[B, F, H, W, 3] -> [B, F * P, patch_px * patch_px * 3].

  Patches in the order frame, row, column; the pixels of one in the order row,
  column, channel.
  """
  batch, frames, height, width, channels = pixels.shape
  x = pixels.reshape(batch, frames, height // patch_px, patch_px,
                     width // patch_px, patch_px, channels)
  x = jnp.swapaxes(x, 3, 4)
  return x.reshape(batch, -1, patch_px * patch_px * channels)


def sinusoids(rows, width):
  """float64 [rows, width]: sine in even columns, cosine in odd ones."""
  column = np.arange(width)
  angle = np.arange(rows)[:, None] / 10000 ** (2 * (column // 2) / width)
  return np.where(column % 2, np.cos(angle), np.sin(angle))


def bicubic_matrix(n_in, n_out):
  """float64 [n_out, n_in] that resizes as PyTorch's bicubic interpolation.

  `align_corners=False`, no antialiasing, the border repeated.
  """
  a = CUBIC_COEFFICIENT
  source = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
  first = np.floor(source).astype(int) - 1
  matrix = np.zeros((n_out, n_in))
  for tap in range(4):
    d = np.abs(source - first - tap)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    index = np.clip(first + tap, 0, n_in - 1)
    np.add.at(matrix, (np.arange(n_out), index), np.where(d <= 1, near, far))
  return matrix


def linear_matrix(n_in, n_out):
  """float64 [n_out, n_in] that resizes as PyTorch's linear interpolation."""
  source = np.maximum((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0)
  first = np.minimum(np.floor(source).astype(int), n_in - 1)
  second = np.minimum(first + 1, n_in - 1)
  matrix = np.zeros((n_out, n_in))
  np.add.at(matrix, (np.arange(n_out), first), 1 - (source - first))
  np.add.at(matrix, (np.arange(n_out), second), source - first)
  return matrix


def positions(config, n_frames):
  """The position table, float32 [n_frames * P, D], computed in float64.

  A single frame has a table of its own, with the rows of one frame only; any
  other number of frames is resized from the table of pre-training.
  """
  table_frames = 1 if n_frames == 1 else config.table_frames
  grid = config.table_grid
  table = sinusoids(table_frames * grid * grid, config.width)
  table = table.reshape(table_frames, grid, grid, config.width)
  resize = bicubic_matrix(grid, config.grid)
  table = np.einsum('yi,tijD->tyjD', resize, table)
  table = np.einsum('xj,tyjD->tyxD', resize, table)
  if n_frames != table_frames:
    resize = linear_matrix(table_frames, n_frames)
    table = np.einsum('st,tyxD->syxD', resize, table)
  return table.reshape(-1, config.width).astype(np.float32)


def attend(query, key, value):
  """Full attention, softmax in float32; [B, T, N, H] and twice [B, S, N, H]."""
  score = jnp.einsum('BTNH,BSNH->BNTS', query, key,
                     preferred_element_type=jnp.float32)
  weight = jax.nn.softmax(score * query.shape[-1] ** -0.5, -1)
  return jnp.einsum('BNTS,BSNH->BTNH', weight.astype(value.dtype), value)


def blockwise_attend(query, key, value, block):
  """`attend`, for `block` queries at a time to bound the memory.

  The scores of a block are computed again in the backward pass.
  """
  batch, length, heads, width = query.shape
  if length <= block:
    return attend(query, key, value)
  n_blocks = -(-length // block)
  padded = jnp.pad(
      query, ((0, 0), (0, n_blocks * block - length), (0, 0), (0, 0)))
  blocks = padded.reshape(batch, n_blocks, block, heads, width)
  out = jax.lax.map(jax.checkpoint(lambda q: attend(q, key, value)),
                    jnp.moveaxis(blocks, 1, 0))
  return jnp.moveaxis(out, 0, 1).reshape(padded.shape)[:, :length]


class Attention(nn.Module):
  """Self-attention with one qkv kernel, a bias on q and v and none on k."""
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    batch, length, width = x.shape
    bias = [
        self.param(name, nn.initializers.zeros, (width,), c.param_dtype)
        for name in ('q_bias', 'v_bias')]
    qkv = c.dense(3 * width, name='qkv')(x)
    qkv = qkv.reshape(batch, length, 3, c.heads, width // c.heads)
    query, key, value = (qkv[:, :, i] for i in range(3))
    query, value = (
        part + b.astype(part.dtype).reshape(c.heads, -1)
        for part, b in zip((query, value), bias))
    if c.attention == 'xla':
      # Its gradients are not to the bit those of attention_lib.attention.
      out = blockwise_attend(query, key, value, QUERY_BLOCK)
    else:
      out, _ = attention_lib.attention(
          query, key, value, None, implementation=c.attention)
      out = out.astype(c.dtype)
    return c.dense(width, use_bias=True, name='out')(
        out.reshape(batch, length, width))


class Mlp(nn.Module):
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    hidden = c.dense(c.mlp_width, use_bias=True, name='in')(x)
    return c.dense(c.width, use_bias=True, name='out')(
        nn.gelu(hidden, approximate=False))


class Block(nn.Module):
  """Pre-norm attention and MLP; returns (x, None), as scanning wants it."""
  config: VisionConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    norm = functools.partial(c.norm, c.block_norm_eps)
    x = x + Attention(c, name='attention')(norm('attention_norm')(x))
    x = x + Mlp(c, name='mlp')(norm('mlp_norm')(x))
    return x, None


class VisionTower(nn.Module):
  """Pixels of clips in, one hidden state per patch out."""
  config: VisionConfig

  @nn.compact
  def __call__(self, pixels):
    """float [B, F, H, W, 3] -> [B, F * P, D], frame by frame, row by row.

    Raises:
      ValueError: if the pixels are not `image_px` square.
    """
    c = self.config
    if pixels.ndim != 5 or pixels.shape[2:] != (c.image_px, c.image_px, 3):
      raise ValueError(
          f'vision tower: got pixels {pixels.shape}, want [clips, frames, '
          f'{c.image_px}, {c.image_px}, 3]: resize the frames or set image_px')
    x = patches(pixels.astype(c.dtype), c.patch_px)
    x = c.dense(c.width, use_bias=True, name='patch')(x)
    x = x + jnp.asarray(positions(c, pixels.shape[1]), x.dtype)
    blocks = layers.scan_layers(Block, c.layers, remat=c.remat)
    x, _ = blocks(c, name='blocks')(x)
    return c.norm(c.final_norm_eps, 'final_norm')(x)


def encode_clips(config, params, frames, tokens_per_clip):
  """Features of videos: tower and token merging, clip by clip.

  Args:
    config: a VisionConfig.
    params: the tower's parameters, `{'patch': ..., 'blocks': ...,
      'final_norm': ...}`.
    frames: uint8 [B, F, H, W, 3], or pixel values (float, normalised). F is a
      multiple of `config.n_frames`, or 1 for an image.
    tokens_per_clip: tokens that merging leaves of a clip (the authors: 16 for
      each of its 4 frames, and 64 for an image).

  Returns:
    [B, F / n_frames, tokens_per_clip, D] in the dtype of the tower.

  Raises:
    ValueError: if F does not make whole clips.
  """
  batch, n_frames = frames.shape[:2]
  clip_frames = 1 if n_frames == 1 else config.n_frames
  if n_frames % clip_frames:
    raise ValueError(
        f'vision tower: {n_frames} frames do not make clips of {clip_frames}; '
        f'sample a multiple of {clip_frames} frames, or one')
  if jnp.issubdtype(frames.dtype, jnp.integer):
    frames = pixel_values(frames)
  clips = frames.reshape(-1, clip_frames, *frames.shape[2:])
  # parent=None: a module of its own also where another one calls.
  tokens = VisionTower(config, parent=None).apply({'params': params}, clips)
  merged = tome.merge_tokens(tokens, tokens_per_clip, config.heads)
  return merged.reshape(batch, -1, *merged.shape[1:])


def vision_config(section, **fields):
  """The VisionConfig of a config's `vision` section, and of `fields`."""
  names = {field.name for field in dataclasses.fields(VisionConfig)}
  return VisionConfig(**{
      name: value for name, value in section.items() if name in names},
      **fields)
