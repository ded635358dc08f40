"""Parts that every model shares: dense with LoRA, norms, rotary, attention."""
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

MASKED = -1e30  # finite, so that a row without any key gives no NaN
CUDNN_DTYPES = ('bfloat16', 'float16')
CUDNN_HEAD_WIDTH = 256  # at most; 128 before Hopper


class Dense(nn.Module):
  """x @ kernel + bias, plus a low-rank term where `lora` has one.

  The kernel is [inputs, features]. Low-rank factors `a` [inputs, rank] and
  `b` [rank, features] live in the variable collection `lora` under the same
  path; without them this is a plain dense layer. Dropout acts on the input of
  `a` alone, and only when a `dropout` key is given (Hu et al. 2021, as PEFT).
  Where the collection `turned` has a `kernel`, the transpose of the parameter,
  the product is taken as `times_turned` does.
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
    if self.has_variable('turned', 'kernel'):
      turned = self.get_variable('turned', 'kernel')
      y = times_turned(x, turned.astype(self.dtype))
    else:
      y = x @ kernel
    y = sum((left @ right for left, right in low_rank), y)
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


def check_attention(name, head_width, dtype, dropout=False):
  """Raises ValueError for an `attention` that cannot do what is asked of it.

  name: 'xla' does all; 'cudnn' takes 16-bit heads of a multiple of 8, and no
  dropout of the weights.
  """
  if name not in ('xla', 'cudnn'):
    raise ValueError(
        f"model.attention {name!r} is not known; want 'xla' or 'cudnn'")
  dtype = jnp.dtype(dtype).name
  for field, got, fits, want in (
      ('dtype', dtype, dtype in CUDNN_DTYPES, ' or '.join(CUDNN_DTYPES)),
      ('head width', head_width,
       head_width % 8 == 0 and head_width <= CUDNN_HEAD_WIDTH,
       f'a multiple of 8 up to {CUDNN_HEAD_WIDTH}'),
      ('dropout', dropout, not dropout, 'none of the weights')):
    if name == 'cudnn' and not fits:
      raise ValueError(f"model.attention = 'cudnn': got {field} {got}, want "
                       f"{want}; or set model.attention = 'xla'")


def attention(query, key, value, mask, drop=None, implementation='xla'):
  """Grouped-query attention and its log-sum-exp.

  Args:
    query: [B, T, N, H]; key, value: [B, S, K, H], with N a multiple of K.
    mask: bool, broadcastable to [B, T, S]; True = may attend. None = all.
    drop: dropout of the weights, a function of them; None = none.
    implementation: 'xla', the oracle, is written out here. Any other is that
      of jax.nn.dot_product_attention.

  Returns:
    float32 [B, T, N, H], and the log-sum-exp of the scores, float32
    [B, T, N], about -1e30 where a row may attend to nothing; None in its place
    but for 'xla'.

  Raises:
    ValueError: if the implementation cannot do that, see `check_attention`, or
      not on this device.
  """
  if implementation != 'xla':
    check_attention(implementation, query.shape[-1], query.dtype,
                    drop is not None)
    return _attention_by_jax(query, key, value, mask, implementation), None
  # jax.nn's 'xla' is not the same to the bit: it has no dropout, rounds the
  # output and the log-sum-exp to the type of the inputs, and lets no gradient
  # through the latter.
  batch, length, heads, width = query.shape
  groups = heads // key.shape[2]
  grouped = query.reshape(batch, length, -1, groups, width)
  score = jnp.einsum('BTKGH,BSKH->BKGTS', grouped, key,
                     preferred_element_type=jnp.float32) * width ** -0.5
  if mask is not None:
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


def _attention_by_jax(query, key, value, mask, implementation):
  """The output of `attention` by jax.nn.dot_product_attention.

  Not its `return_residual`: that is rounded to the type of the inputs, where
  a log-sum-exp of 100 is off by up to a quarter, and parts that it merges are
  weighted by e to the power of that. Who has two key sets joins them.
  """
  if jax.default_backend() != 'gpu':
    raise ValueError(f'model.attention = {implementation!r}: got the device '
                     f"{jax.default_backend()!r}, want 'gpu'; or set "
                     "model.attention = 'xla'")
  length, keys = query.shape[1], key.shape[1]
  if mask is not None:
    # cuDNN wants all rows and columns of a mask, and for gradients an even
    # number of them.
    mask = jnp.broadcast_to(mask, (len(mask), length, keys))
    mask = jnp.pad(mask, ((0, 0), (0, length % 2), (0, keys % 2)))[:, None]
    query, key, value = (
        jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))
        for x in (query, key, value))
  out = jax.nn.dot_product_attention(
      query, key, value, mask=mask, implementation=implementation)
  return out[:, :length].astype(jnp.float32)


def attention_to_prefix(query, key, value, keys):
  """As `attention`, for many queries that see the same keys [B, S].

  On CPU one head at a time: its scores stay in the cache, which is several
  times as fast. Accelerators take all at once, and so does a single query.
  """
  if query.shape[1] == 1:
    return attention(query, key, value, keys[:, None])
  return jax.lax.platform_dependent(
      query, key, value, keys, cpu=_attention_by_head,
      default=lambda *x: attention(*x[:3], x[3][:, None]))


def attention_of_one(query, key, value, keys):
  """As `attention`, for one query [B, N, H] that sees keys bool [B, S].

  key [B, K, H, S] and value [B, K, S, H]: as products on CPU read them as they
  are. Returns float32 [B, N, H] alone.
  """
  batch, heads, width = query.shape
  grouped = query.reshape(batch, key.shape[1], -1, width)
  score = jnp.einsum('BKGH,BKHS->BKGS', grouped, key,
                     preferred_element_type=jnp.float32) * width ** -0.5
  weight = jax.nn.softmax(jnp.where(keys[:, None, None], score, MASKED), -1)
  out = jnp.einsum('BKGS,BKSH->BKGH', weight.astype(value.dtype), value,
                   preferred_element_type=jnp.float32)
  return out.reshape(batch, heads, width)


def _attention_by_head(query, key, value, keys):
  batch, length, heads, width = query.shape
  kv_heads = key.shape[2]
  grouped = query.reshape(batch, length, kv_heads, -1, width)
  grouped = jnp.transpose(grouped, (0, 2, 3, 1, 4)).reshape(
      batch * kv_heads, -1, width)
  def by_head(x):
    return jnp.moveaxis(x, 2, 1).reshape(batch * kv_heads, -1, width)
  def one(inputs):
    query, key, value, keys = inputs
    score = jnp.matmul(
        query, key.T, preferred_element_type=jnp.float32) * width ** -0.5
    score = jnp.where(keys, score, MASKED)
    peak = jnp.max(score, -1, keepdims=True)
    weight = jnp.exp(score - peak)
    total = jnp.sum(weight, -1, keepdims=True)
    out = jnp.matmul(weight.astype(value.dtype), value,
                     preferred_element_type=jnp.float32)
    return out / total, peak + jnp.log(total)
  parts = jax.lax.map(one, (grouped, by_head(key), by_head(value),
                            jnp.repeat(keys, kv_heads, 0)))
  def in_order(x):
    x = x.reshape(batch, kv_heads, -1, length, x.shape[-1])
    return jnp.transpose(x, (0, 3, 1, 2, 4)).reshape(
        batch, length, heads, x.shape[-1])
  out, lse = map(in_order, parts)
  return out, lse[..., 0]


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
