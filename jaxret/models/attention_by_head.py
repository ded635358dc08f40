"""Attention for CPUs: a few heads at a time, whose scores stay in the cache.

Written out at once, a layer's scores pass through memory a dozen times, and
the backward pass reads them from there again. Here no scores are kept: those
of a few heads are made, used, and in the backward pass made again, as Dao et
al. (2022) do on GPUs with blocks of queries and keys.
"""
import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxret.models import splash

MASKED = -1e30  # finite, so that a row without any key gives no NaN
# Scores at a time, in float32 2 MiB: about what a core's own cache holds.
CHUNK = 2 ** 19


def attend(query, key, value, mask):
  """Grouped-query attention and its log-sum-exp, see models.attention.

  query [B, T, N, H]; key, value [B, S, K, H]; mask bool, broadcastable to
  [B, T, S], or None. Returns float32 [B, T, N, H] and [B, T, N].
  """
  batch, length, heads, width = query.shape
  kv_heads = key.shape[2]
  rows = query.reshape(batch, length, kv_heads, -1, width)
  rows = jnp.transpose(rows, (0, 2, 3, 1, 4)).reshape(
      batch * kv_heads, -1, length, width)
  if mask is not None:
    mask = jnp.broadcast_to(mask, (batch, mask.shape[-2], key.shape[1]))
  out, lse = _attend(rows, _by_head(key), _by_head(value), mask)

  def in_order(x):  # [B * K, G, T, ...] -> [B, T, N, ...]
    x = x.reshape(batch, kv_heads, -1, length, *x.shape[3:])
    return jnp.moveaxis(x, 3, 1).reshape(batch, length, heads, *x.shape[4:])

  return in_order(out), in_order(lse)


def _by_head(x):
  """[B, S, K, H] -> [B * K, S, H]."""
  return jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], x.shape[3])


@jax.custom_vjp
def _attend(query, key, value, mask):
  """query [R, G, T, H]; key, value [R, S, H]; mask [B, T or 1, S], R = B * K.

  Returns float32 [R, G, T, H] and [R, G, T].
  """
  return _forward(query, key, value, mask)[0]


def _forward(query, key, value, mask):
  def part(rows, query, key, value):
    weight, peak, total = _weights(query, key, _of(mask, rows, len(query)))
    out = jnp.einsum('RGTS,RSH->RGTH', weight.astype(value.dtype), value,
                     preferred_element_type=jnp.float32) / total
    return out, peak[..., 0], total[..., 0]

  out, peak, total = (checkpoint_name(x, splash.OUTPUTS) for x in
                      _in_chunks(part, query, key, value, mask))
  return (out, peak + jnp.log(total)), (
      query, key, value, mask, out, peak, total)


def _backward(kept, gradients):
  """Gradients for query, key and value, from the scores made once more.

  Passes over scores are what costs. So weights are not divided by their sum:
  it goes into the output's gradient, as the scale goes into the results; and
  of two operands of a product the one of head width is turned, not the scores.
  """
  query, key, value, mask, out, peak, total = kept
  d_out, d_lse = gradients
  scale = query.shape[-1] ** -0.5
  d_out = d_out / total[..., None]
  # What a score's gradient loses to that of the others in its row; scores of a
  # row that sees nothing are no function of queries and keys.
  counts = peak > MASKED / 2
  lost = jnp.where(counts, jnp.sum(d_out * out, -1) - d_lse / total, 0)
  d_sum = jnp.where(counts[..., None], d_out, 0)
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

  def part(rows, query, key, value, peak, lost, d_sum, d_out):
    score = _scores(query, key, _of(mask, rows, len(query)))
    weight = jnp.exp(score - peak[..., None])
    d_weight = product('RGTH,RSH->RGTS', d_sum.astype(value.dtype), value)
    d_score = (weight * (d_weight - lost[..., None])).astype(query.dtype)
    columns = _columns(query), _columns(d_out.astype(value.dtype))
    found = jax.lax.optimization_barrier((
        product('RGHT,RGTS->RHS', columns[0], d_score),
        product('RGHT,RGTS->RHS', columns[1], weight.astype(value.dtype))))
    d_key, d_value = (jnp.swapaxes(x, -1, -2) for x in found)
    d_query = product('RGTS,RSH->RGTH', d_score, key)
    return ((d_query * scale).astype(query.dtype),
            (d_key * scale).astype(key.dtype), d_value.astype(value.dtype))

  return *_in_chunks(
      part, query, key, value, mask, peak, lost, d_sum, d_out), None


def _columns(x):
  """[R, G, T, H] -> [R, G, H, T], which no product turns back."""
  return jax.lax.optimization_barrier(jnp.swapaxes(x, -1, -2))


_attend.defvjp(_forward, _backward)


def _scores(query, key, seen):
  score = jnp.einsum('RGTH,RSH->RGTS', query, key,
                     preferred_element_type=jnp.float32) * (
                         query.shape[-1] ** -0.5)
  return score if seen is None else jnp.where(seen, score, MASKED)


def _weights(query, key, seen):
  """(e to the scores less the largest of a row, that, the sum of these)."""
  score = _scores(query, key, seen)
  peak = jnp.max(score, -1, keepdims=True)
  weight = jnp.exp(score - peak)
  return weight, peak, jnp.sum(weight, -1, keepdims=True)


def _of(mask, rows, size):
  """The mask of `size` rows from the first, [R, 1, T or 1, S], or None."""
  if mask is None:
    return None
  first, per_example = rows
  return mask[(first + jnp.arange(size)) // per_example][:, None]


def _in_chunks(part, query, key, value, mask, *more):
  """`part` of all rows, as many at a time as CHUNK scores hold.

  part: ((the first row, rows of an example), arrays of some rows) -> arrays.
  """
  n_rows, groups, length, _ = query.shape
  per_example = 1 if mask is None else n_rows // len(mask)
  fits = max(1, CHUNK // (groups * length * key.shape[1]))
  size = max(n for n in range(1, n_rows + 1) if not n_rows % n and n <= fits)
  arrays = query, key, value, *more
  if size == n_rows:
    return part((0, per_example), *arrays)
  chunks = [x.reshape(-1, size, *x.shape[1:]) for x in arrays]
  found = jax.lax.map(
      lambda given: part((given[0], per_example), *given[1:]),
      (jnp.arange(0, n_rows, size), *chunks))
  return jax.tree.map(lambda x: x.reshape(n_rows, *x.shape[2:]), found)
