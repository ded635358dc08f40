"""Parts that every model shares: dense with LoRA, norms, rotary, stacks."""
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.models import quantized, splash


class Dense(nn.Module):
  """x @ kernel + bias, plus a low-rank term where `lora` has one.

  The kernel is [inputs, features]. Low-rank factors `a` [inputs, rank] and
  `b` [rank, features] live in the variable collection `lora` under the same
  path; without them this is a plain dense layer. Dropout acts on the input of
  `a` alone, and only when a `dropout` key is given (Hu et al. 2021, as PEFT).
  Where the collection `turned` has a `kernel`, the transpose of the parameter,
  the product is taken as `times_turned` does; where `quantized` has `codes`,
  which stand for the parameter, as `quantized.product` does.
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
    (x, kernel), *low_rank = self.terms(x)
    if self.has_variable('quantized', 'codes'):
      y = quantized.product(x, *kernel)
    elif self.has_variable('turned', 'kernel'):
      turned = self.get_variable('turned', 'kernel')
      y = times_turned(x, turned.astype(self.dtype))
    else:
      y = product(x, kernel)
    y = sum((product(left, right) for left, right in low_rank), y)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,),
                        self.param_dtype)
      y = y + bias.astype(self.dtype)
    return y

  def terms(self, x):
    """[(x, kernel)] and, with LoRA, (x a * scale, b): they sum to x W."""
    x = x.astype(self.dtype)
    if self.has_variable('quantized', 'codes'):
      terms = [(x, tuple(self.get_variable('quantized', name)
                         for name in ('codes', 'scale')))]
    else:
      kernel = self.param('kernel', self.kernel_init,
                          (x.shape[-1], self.features), self.param_dtype)
      terms = [(x, kernel.astype(self.dtype))]
    if self.has_variable('lora', 'a'):
      a = self.get_variable('lora', 'a').astype(self.dtype)
      b = self.get_variable('lora', 'b').astype(self.dtype)
      if self.lora_dropout and self.has_rng('dropout'):
        x = dropout(self.make_rng('dropout'), x, self.lora_dropout)
      terms.append((self.lora_scale * product(x, a), b))
    return terms


@jax.custom_vjp
def product(x, kernel):
  """x [..., D] times the kernel [D, F] of weights, in their common type.

  Its gradient for the kernel is taken on CPU as a product of two matrices of
  all rows: the compiler would make columns of what rows have several axes for,
  while it computes that, each number far from the last in memory.
  """
  return x @ kernel


def _forward(x, kernel):
  return x @ kernel, (x, kernel)


def _backward(kept, gradient):
  x, kernel = kept
  def of_rows(x, gradient):
    return x.reshape(-1, x.shape[-1]).T @ gradient.reshape(
        -1, gradient.shape[-1])
  def of_axes(x, gradient):
    axes = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, gradient, ((axes, axes), ((), ())))
  return gradient @ kernel.T, jax.lax.platform_dependent(
      x, gradient, cpu=of_rows, default=of_axes)


product.defvjp(_forward, _backward)


def times_turned(x, turned, dtype=None):
  """x [..., D] times the transpose of turned [F, D], in `dtype` or x's own.

  For few rows x on CPU: a product packs its right operand anew at each call,
  so that the weights should be the left one. The barrier keeps the compiler
  from turning them back.
  """
  rows = x.reshape(-1, x.shape[-1])
  columns = jax.lax.optimization_barrier(
      jax.lax.dot_general(turned, rows, (((1,), (1,)), ((), ())),
                          preferred_element_type=dtype))
  return columns.T.reshape(*x.shape[:-1], -1)


class Head(Dense):
  """An output head that hands out its terms, to be multiplied blockwise."""

  @nn.compact
  def __call__(self, x):
    return self.terms(x)


def dropout(key, x, rate):
  """Zeroes a share of x and scales up the rest.

  Each element's bits are a hash (murmur3's finalizer, twice) of its index and
  the key: as good for a mask as jax.random's, the same on any mesh, and a
  fraction of its work, which would be more than that of LoRA itself.
  """
  seed = jax.random.bits(key, (2,))
  index = jnp.uint32(0)
  for axis, size in enumerate(x.shape):
    index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(
        jnp.uint32, x.shape, axis)
  bits = _mix(_mix(index ^ seed[0]) + seed[1])
  keep = bits >= jnp.uint32(rate * 2 ** 32)
  return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


def _mix(bits):
  """A bijection of uint32 in which every bit depends on every bit."""
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85ebca6b)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xc2b2ae35)
  return bits ^ (bits >> 16)


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


def rotary(x, positions, theta, sections=(), frequencies=(), scale=1.0,
           interleaved=False):
  """Rotates the two halves of each head by its position (Su et al. 2021).

  Args:
    x: [..., T, N, H].
    positions: int [..., T]; or [3, ..., T], one per axis (time, row, column).
    theta: the base of the frequencies.
    sections: of positions with axes, how many frequencies in turn follow each
      axis (M-RoPE, arXiv 2409.12191); they sum to H / 2.
    frequencies: H / 2 of them, where theta does not tell (models.rotary).
    scale: of the result.
    interleaved: whether the axes take turns, as long as their sections last,
      time having the rest (Qwen3-VL), instead of following each other.

  Returns:
    Like x; angles in float32.
  """
  half = x.shape[-1] // 2
  if frequencies:
    frequency = jnp.array(frequencies, jnp.float32)
  else:
    frequency = theta ** -(jnp.arange(half, dtype=jnp.float32) / half)
  if positions.ndim == x.ndim - 1:
    places = jnp.moveaxis(
        positions[jnp.array(_axes(sections, interleaved))], 0, -1)
  else:
    places = positions[..., None]
  return rotate(x, places.astype(jnp.float32) * frequency, scale)


def _axes(sections, interleaved):
  """The axis that each frequency follows, one of 0, 1, 2, ..."""
  if not interleaved:
    return [axis for axis, count in enumerate(sections) for _ in range(count)]
  count = len(sections)
  return [j % count if j < count * sections[j % count] else 0
          for j in range(sum(sections))]


def rotate(x, angle, scale=1.0):
  """Turns the halves of heads; x [..., T, N, H], angle [..., T, H / 2]."""
  cos, sin = jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]
  if scale != 1:
    cos, sin = cos * scale, sin * scale
  first, second = jnp.split(x.astype(jnp.float32), 2, -1)
  turned = jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin], -1)
  return turned.astype(x.dtype)


def remat_policy(remat):
  """What the backward pass finds of a layer: (whether less than all, policy).

  remat: 'none' computes nothing again; 'dots' all but what products with
  weights, and kernels of attention, give; 'full' all; 'offload' as 'dots',
  whose products wait in the memory of the host. As work directories had it
  before, True is 'full' and False 'none'.

  Raises ValueError for another name.
  """
  name = {'True': 'full', 'False': 'none'}.get(str(remat), remat)
  policies = jax.checkpoint_policies
  if name == 'none':
    return False, None
  if name == 'full':
    return True, None
  if name == 'dots':
    return True, policies.save_from_both_policies(
        policies.dots_with_no_batch_dims_saveable,
        policies.save_only_these_names(splash.OUTPUTS))
  if name == 'offload':
    return True, policies.offload_dot_with_no_batch_dims(
        'device', 'pinned_host')
  raise ValueError(f"model.remat {remat!r} is not known; want one of 'none', "
                   "'dots', 'full', 'offload'")


def scan_layers(block, layers, remat='none', in_axes=(),
                methods=('__call__',)):
  """Stacks `block` along a leading layer axis: one compilation for all.

  `in_axes` says for each argument after the carry whether it is scanned (0)
  or shared by every layer (`nn.broadcast`); `methods` are lifted alike.
  `remat`: see `remat_policy`.
  """
  again, policy = remat_policy(remat)
  if again:
    block = nn.remat(block, prevent_cse=False, methods=methods, policy=policy)
  return nn.scan(
      block, variable_axes={'params': 0, 'lora': 0, 'quantized': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=in_axes, length=layers, methods=methods)
