"""Parts that every model shares: dense with LoRA, norms, rotary, attention."""
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

MASKED = -1e30  # finite, so that a row without any key gives no NaN


class Dense(nn.Module):
  """x @ kernel + bias, plus a low-rank term where `lora` has one.

  The kernel is [inputs, features]. Low-rank factors `a` [inputs, rank] and
  `b` [rank, features] live in the variable collection `lora` under the same
  path; without them this is a plain dense layer. Dropout acts on the input of
  `a` alone, and only when a `dropout` key is given (Hu et al. 2021, as PEFT).
  """
  features: int
  use_bias: bool = False
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  lora_scale: float = 1.0
  lora_dropout: float = 0.0
  kernel_init: Any = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x):
    y = sum(left @ right for left, right in self.terms(x))
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,),
                        self.param_dtype)
      y = y + bias.astype(self.dtype)
    return y

  def terms(self, x):
    """[(x, kernel)] and, with LoRA, (x a * scale, b): they sum to x W."""
    x = x.astype(self.dtype)
    kernel = self.param('kernel', self.kernel_init,
                        (x.shape[-1], self.features), self.param_dtype)
    terms = [(x, kernel.astype(self.dtype))]
    if self.has_variable('lora', 'a'):
      a = self.get_variable('lora', 'a').astype(self.dtype)
      b = self.get_variable('lora', 'b').astype(self.dtype)
      if self.lora_dropout and self.has_rng('dropout'):
        x = dropout(self.make_rng('dropout'), x, self.lora_dropout)
      terms.append((self.lora_scale * (x @ a), b))
    return terms


class Head(Dense):
  """An output head that hands out its terms, to be multiplied blockwise."""

  @nn.compact
  def __call__(self, x):
    return self.terms(x)


def dropout(key, x, rate):
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


class RMSNorm(nn.Module):
  """x / rms(x) * scale, the mean square in float32."""
  eps: float = 1e-6
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],),
                       self.param_dtype)
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), -1, keepdims=True)
    normed = wide * jax.lax.rsqrt(mean_square + self.eps)
    return normed.astype(x.dtype) * scale.astype(x.dtype)


def rotary(x, positions, theta):
  """Rotates the two halves of each head by its position (Su et al. 2021).

  x [..., T, N, H], positions int [..., T] -> like x; angles in float32.
  """
  half = x.shape[-1] // 2
  frequency = theta ** -(jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions[..., None, None].astype(jnp.float32) * frequency
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  first, second = jnp.split(x.astype(jnp.float32), 2, -1)
  turned = jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin], -1)
  return turned.astype(x.dtype)


def attention(query, key, value, mask, drop=None):
  """Grouped-query attention and its log-sum-exp.

  Args:
    query: [B, T, N, H]; key, value: [B, S, K, H], with N a multiple of K.
    mask: bool, broadcastable to [B, T, S]; True = may attend.
    drop: dropout of the weights, a function of them; None = none.

  Returns:
    float32 [B, T, N, H], and the log-sum-exp of the scores, float32
    [B, T, N]; about -1e30 where a row may attend to nothing.
  """
  batch, length, heads, width = query.shape
  groups = heads // key.shape[2]
  grouped = query.reshape(batch, length, -1, groups, width)
  score = jnp.einsum('BTKGH,BSKH->BKGTS', grouped, key,
                     preferred_element_type=jnp.float32) * width ** -0.5
  score = jnp.where(mask[:, None, None], score, MASKED)
  peak = jax.lax.stop_gradient(jnp.max(score, -1, keepdims=True))
  weight = jnp.exp(score - peak)
  total = jnp.sum(weight, -1, keepdims=True)
  share = weight / total if drop is None else drop(weight / total)
  out = jnp.einsum('BKGTS,BSKH->BTKGH', share.astype(value.dtype),
                   value, preferred_element_type=jnp.float32)
  lse = (peak + jnp.log(total))[..., 0]
  return (out.reshape(batch, length, heads, width),
          jnp.moveaxis(lse, -1, 1).reshape(batch, length, heads))


def merge_attention(out_a, lse_a, out_b, lse_b):
  """Attention over the union of two key sets from the parts, exactly.

  out [..., N, H] and lse [..., N] in float32, as `attention` returns them.
  """
  weight = jax.nn.sigmoid(lse_a - lse_b)[..., None]
  return out_a * weight + out_b * (1 - weight)


def scan_layers(block, layers, remat=False, in_axes=(),
                methods=('__call__',)):
  """Stacks `block` along a leading layer axis: one compilation for all.

  `in_axes` says for each argument after the carry whether it is scanned (0)
  or shared by every layer (`nn.broadcast`); `methods` are lifted alike. With
  `remat` only the carries are kept for the backward pass.
  """
  if remat:
    block = nn.remat(block, prevent_cse=False, methods=methods)
  return nn.scan(
      block, variable_axes={'params': 0, 'lora': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=in_axes, length=layers, methods=methods)
