"""Attention, written out and by kernels, chosen by name.

`attention` is the one door of all models; the others are for one query or many
that see the keys of a prefix, and join what two parts give.
"""
import jax
import jax.numpy as jnp

from jaxret.models import attention_by_head, masks, splash

ATTENTION = 'xla', 'cudnn', 'splash', 'heads', 'auto'
# Queries at a time of the implementations that hold scores of all keys.
QUERY_BLOCK = 1024
MASKED = attention_by_head.MASKED
CUDNN_DTYPES = ('bfloat16', 'float16')
CUDNN_HEAD_WIDTH = 256  # at most; 128 before Hopper


def check_attention(name, head_width, dtype, dropout=False):
  """Raises ValueError for an `attention` that cannot do what is asked of it.

  name: one of ATTENTION. 'xla' does all; 'cudnn' takes 16-bit heads of a
  multiple of 8, 'splash' and 'heads' any, none of them dropout of the weights.
  With 'auto' a TPU has 'splash', a GPU 'cudnn', a single CPU device 'heads',
  and what they cannot do has 'xla'.
  """
  if name not in ATTENTION:
    raise ValueError(f'model.attention {name!r} is not known; want one of '
                     f'{", ".join(map(repr, ATTENTION))}')
  if wrong := _wrong(name, head_width, dtype, dropout):
    raise ValueError(f'model.attention = {name!r}: {wrong}; or set '
                     "model.attention = 'xla'")


def _wrong(name, head_width, dtype, dropout):
  """What a kernel cannot do, in words, or None."""
  dtype = jnp.dtype(dtype).name
  kernels = 'cudnn', 'splash', 'heads'
  for names, field, got, fits, want in (
      (('cudnn',), 'dtype', dtype, dtype in CUDNN_DTYPES,
       ' or '.join(CUDNN_DTYPES)),
      (('cudnn',), 'head width', head_width,
       head_width % 8 == 0 and head_width <= CUDNN_HEAD_WIDTH,
       f'a multiple of 8 up to {CUDNN_HEAD_WIDTH}'),
      (kernels, 'dropout', dropout, not dropout, 'none of the weights')):
    if name in names and not fits:
      return f'got {field} {got}, want {want}'
  return None


def chosen_attention(name, head_width, dtype, dropout=False):
  """What `auto` is on this machine, as far as that is known before compiling.

  It stays 'auto' where a program may be compiled for another machine's TPU.
  """
  if name == 'auto' and dropout:
    return 'xla'
  if name == 'auto' and jax.default_backend() == 'gpu':
    return 'xla' if _wrong('cudnn', head_width, dtype, False) else 'cudnn'
  return name


def attention(query, key, value, mask, drop=None, implementation='xla',
              block=QUERY_BLOCK):
  """Grouped-query attention and its log-sum-exp.

  Args:
    query: [B, T, N, H]; key, value: [B, S, K, H], with N a multiple of K.
    mask: masks.Segments; or bool, broadcastable to [B, T, S], True = may
      attend; None = all. 'splash' takes no bool of several rows.
    drop: dropout of the weights, a function of them; None = none.
    implementation: one of ATTENTION. 'xla', the oracle, is written out here;
      'splash' and 'heads' are modules of their own, 'cudnn' is jax.nn's.
    block: of Segments, how many queries at a time, at most, others than
      'splash' take; see `_attention_by_block`.

  Returns:
    float32 [B, T, N, H]; and of 'xla' and 'heads' the log-sum-exp of scores,
    float32 [B, T, N], about -1e30 for a row that sees nothing, else None.

  Raises ValueError if the implementation cannot do that, see
  `check_attention`, or not on this device.
  """
  width, dtype, dropped = query.shape[-1], query.dtype, drop is not None
  check_attention(implementation, width, dtype, dropped)
  implementation = chosen_attention(implementation, width, dtype, dropped)
  if implementation == 'auto':
    def by(name):
      return lambda *qkv: attention(
          *qkv, mask, implementation=name, block=block)[0]
    # Heads take turns, and those of one device would wait for another's.
    others = {'cpu': by('heads' if jax.device_count() == 1 else 'xla')}
    if isinstance(mask, masks.Segments) or mask is None or mask.shape[-2] == 1:
      others['tpu'] = by('splash')
    return jax.lax.platform_dependent(
        query, key, value, default=by('xla'), **others), None
  if implementation == 'splash':
    rule = masks.as_rule(mask, *key.shape[:2])
    return splash.attend(query, key, value, rule).astype(jnp.float32), None
  if isinstance(mask, masks.Segments):
    if query.shape[1] > block:
      return _attention_by_block(query, key, value, mask, implementation, block)
    mask = mask.table(query.shape[1])
  if implementation == 'heads':
    return attention_by_head.attend(query, key, value, mask)
  if implementation == 'cudnn':
    return _attention_by_jax(query, key, value, mask, implementation), None
  return _written_out(query, key, value, mask, drop)


def _written_out(query, key, value, mask, drop):
  """The 'xla' of `attention`; mask: bool or None."""
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


def _attention_by_block(query, key, value, rule, implementation, block):
  """`attention` for as many queries at a time, at most, as `block` says.

  The backward pass computes the scores of a block again.
  """
  rows, length = query.shape[:2]
  blocks = -(-length // block)
  size = -(-length // blocks)
  @jax.checkpoint
  def part(first, query):
    return attention(query, key, value, rule.rows(first, size, length),
                     implementation=implementation)
  padded = jnp.pad(
      query, ((0, 0), (0, blocks * size - length), (0, 0), (0, 0)))
  parts = jax.lax.map(lambda args: part(*args), (
      size * jnp.arange(blocks),
      jnp.moveaxis(padded.reshape(rows, blocks, size, *query.shape[2:]), 1, 0)))
  return jax.tree.map(
      lambda x: jnp.moveaxis(x, 0, 1).reshape(
          rows, blocks * size, *x.shape[3:])[:, :length], parts)


def seen_at_once(mask, length, implementation, block=QUERY_BLOCK):
  """The mask as a table where layers would each make one, else as it is."""
  if isinstance(mask, masks.Segments) and length <= block and (
      implementation in ('xla', 'cudnn', 'heads')):
    return mask.table(length)
  return mask


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


def attention_to_prefix(query, key, value, keys, implementation='xla'):
  """As `attention`, for many queries that see the same keys bool [B, S].

  On CPU one head at a time: its scores stay in the cache, which is several
  times as fast. Accelerators take all at once, and so does a single query; a
  TPU by the kernel 'splash' where the implementation is that, or 'auto'.
  """
  def at_once(query, key, value, keys):
    return attention(query, key, value, keys[:, None])
  def by_splash(query, key, value, keys):
    out, lse = splash.attend(query, key, value, masks.to_keys(keys), True)
    return out.astype(jnp.float32), lse
  inputs = query, key, value, keys
  if query.shape[1] == 1:
    return at_once(*inputs)
  if implementation == 'splash':
    return by_splash(*inputs)
  more = {'tpu': by_splash} if implementation == 'auto' else {}
  return jax.lax.platform_dependent(
      *inputs, cpu=_attention_by_head, default=at_once, **more)


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
