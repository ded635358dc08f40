"""Attention by JAX's Pallas kernel for TPUs, which holds no scores of a row.

Source: `jax.experimental.pallas.ops.tpu.splash_attention`, FlashAttention-2
(arXiv 2307.08691) with blocks that a causal mask hides left out. On CPU it is
interpreted, which shows what it computes and not how fast.
"""
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxret import sharding

LANES = 128  # of a TPU's vectors: heads and blocks are multiples of it
BLOCK = 512  # queries and keys of a block, at most
OUTPUTS = 'attention'  # what policies of rematerialization call them
PADDING = -1  # the segment of what is padded


def attend(query, key, value, rule, residuals=False):
  """Grouped-query attention; see attention.attention.

  query [B, T, N, H]; key, value [B, S, K, H]; rule: masks.Segments.

  Returns: [B, T, N, H] in the type of the query, and with `residuals` the
  log-sum-exp of the scores, float32 [B, T, N], which has no gradient.

  The query is scaled in its own type, so that in bfloat16 scores differ from
  those of 'xla' by that rounding. Each device attends to its own rows and
  heads, as far as the mesh divides them.
  """
  batch, length, _, width = query.shape
  keys, kv_heads = key.shape[1:3]
  if rule.causal and length != keys:
    raise ValueError(f'causal attention of {length} queries to {keys} keys; '
                     'want as many')
  of_queries, of_keys = (
      jnp.broadcast_to(jnp.int32(ids), (batch, count)) for ids, count in (
          (1 if rule.queries is None else rule.queries, length),
          (rule.keys, keys)))
  query = (query.astype(jnp.float32) * width ** -0.5).astype(query.dtype)

  def local(query, key, value, of_queries, of_keys):
    inputs = (*(_heads_first(x) for x in (query, key, value)),
              _padded(of_queries, 1, PADDING), _padded(of_keys, 1, PADDING))
    run = functools.partial(_run, causal=rule.causal, residuals=residuals)
    out, lse = jax.lax.platform_dependent(
        *inputs, tpu=functools.partial(run, interpret=False),
        default=functools.partial(run, interpret=True))
    out = jnp.swapaxes(out, 1, 2)[:, :query.shape[1], :, :width]
    return out, jnp.swapaxes(lse, 1, 2)[:, :query.shape[1]]
  out, lse = _on_mesh(local, batch, kv_heads)(
      query, key, value, of_queries, of_keys)
  return (out, lse) if residuals else out


def _on_mesh(local, batch, heads):
  """`local` on each device's rows and heads: a kernel cannot be partitioned."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or mesh.manual_axes:
    return local
  rows = None if batch % sharding.batch_shards(mesh) else sharding.BATCH_AXES
  split = None if heads % mesh.shape['tensor'] else 'tensor'
  own, ids = P(rows, None, split), P(rows)
  return jax.shard_map(
      local, mesh=mesh, in_specs=(own, own, own, ids, ids),
      out_specs=(own, own), check_vma=False)


def _heads_first(x):
  """[B, T, N, H] -> [B, N, T, H], T and H padded to whole lanes."""
  return _padded(_padded(jnp.swapaxes(x, 1, 2), 2), 3)


def _padded(x, axis, fill=0):
  room = [(0, 0)] * x.ndim
  room[axis] = (0, -x.shape[axis] % LANES)
  return jnp.pad(x, room, constant_values=fill)


def _run(query, key, value, of_queries, of_keys, *, causal, residuals,
         interpret):
  """(out, log-sum-exp or zeros) of padded rows, heads first."""
  from jax.experimental.pallas.ops.tpu import splash_attention as library
  heads, length, keys = query.shape[1], query.shape[2], key.shape[2]
  q, kv = _block(length), _block(keys)
  mask = library.CausalMask if causal else library.FullMask
  kernel = library.make_splash_mha(
      library.MultiHeadMask([mask((length, keys))] * heads),
      block_sizes=library.BlockSizes(
          block_q=q, block_kv=kv, block_q_dkv=q, block_kv_dkv=kv, block_q_dq=q,
          block_kv_dq=kv),
      head_shards=1, q_seq_shards=1, save_residuals=residuals,
      residual_checkpoint_name=OUTPUTS,
      interpret=interpret)
  out = jax.vmap(kernel)(query, key, value,
                         library.SegmentIds(of_queries, of_keys))
  if residuals:
    return out[0], out[1][0]
  return out, jnp.zeros(out.shape[:-1], jnp.float32)


def _block(length):
  """The largest block that divides a length of whole lanes."""
  return next(size for size in range(min(length, BLOCK), 0, -LANES)
              if length % size == 0)
