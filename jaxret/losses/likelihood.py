"""Likelihoods of tokens and of clips, from hidden states and matrices."""
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array


def token_log_likelihood(
    terms: Sequence[tuple[Array, Array]], targets: Array,
    rows: Array | None = None, block_size: int = 2048) -> Array:
  """log softmax of (sum of left @ right) at the targets, blockwise.

  The logits [M, V] never exist at once: a running log-sum-exp goes over blocks
  of the vocabulary, and the backward pass recomputes them.

  Args:
    terms: [(left [..., D], right [D, V])], their products sum to the logits
      (two of them with LoRA on the head).
    targets: int [...], in [0, V).
    rows: int like targets, which of the M flattened rows of logits each target
      belongs to; None = one target per row, in order.
    block_size: of the vocabulary; a multiple of 128 suits accelerators.

  Returns:
    float32, like targets.
  """
  vocab_size = terms[0][1].shape[-1]
  shape = targets.shape
  lefts = [left.reshape(-1, left.shape[-1]) for left, _ in terms]
  rights = [right for _, right in terms]
  targets = targets.reshape(-1)
  rows = jnp.arange(len(targets)) if rows is None else rows.reshape(-1)
  if vocab_size <= block_size:
    lse, picked = _block(lefts, rights, targets, rows, 0, vocab_size)
    return (picked - lse[rows]).reshape(shape)
  size = _even_block(vocab_size, block_size)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def body(carry, index):
    lse, picked = carry
    # The last block is moved back inside; columns seen before are masked.
    first = jnp.minimum(index * size, vocab_size - size)
    part = [jax.lax.dynamic_slice_in_dim(right, first, size, -1)
            for right in rights]
    block_lse, block_picked = _block(
        lefts, part, targets, rows, first, size,
        index * size if vocab_size % size else None)
    return (jnp.logaddexp(lse, block_lse), picked + block_picked), None

  start = (jnp.full(len(lefts[0]), -jnp.inf), jnp.zeros(targets.shape))
  (lse, picked), _ = jax.lax.scan(body, start, jnp.arange(
      math.ceil(vocab_size / size)))
  return (picked - lse[rows]).reshape(shape)


def _even_block(vocab_size, block_size):
  """The largest multiple of 128 that divides the vocabulary, if one is near.

  Else, the size of as many blocks, of which the last overlaps.
  """
  for size in range(block_size // 128 * 128, block_size // 2, -128):
    if vocab_size % size == 0:
      return size
  blocks = math.ceil(vocab_size / block_size)
  return min(math.ceil(vocab_size / blocks / 128) * 128, vocab_size)


def _block(lefts, rights, targets, rows, first, size, fresh=None):
  """Log-sum-exp [M] and target logits of the columns from `first` on.

  Columns before `fresh` belong to an earlier block and do not count.
  """
  logits = sum(
      jnp.matmul(left, right, preferred_element_type=jnp.float32)
      for left, right in zip(lefts, rights))
  local = targets - first
  inside = (local >= 0) & (local < size)
  if fresh is not None:
    logits = jnp.where(first + jnp.arange(size) >= fresh, logits, -jnp.inf)
    inside &= targets >= fresh
  picked = logits[rows, jnp.clip(local, 0, size - 1)]
  return (jax.nn.logsumexp(logits, -1), jnp.where(inside, picked, 0.0))


def token_mean(log_likelihood: Array, mask: Array) -> Array:
  """Negative log-likelihoods whose mean over B is the mean over all tokens.

  BLiM's VTG loss averages over the label tokens of the micro-batch, not per
  caption (spec §3): a long caption counts more than a short one.

  Args:
    log_likelihood: float32 [B, T]; mask: bool [B, T], True = a label.

  Returns:
    float32 [B].
  """
  total = jnp.sum(jnp.where(mask, -log_likelihood, 0.0), -1)
  return total * (mask.shape[0] / jnp.maximum(jnp.sum(mask), 1))


def clip_log_likelihood(queries: Array, vocabulary: Array,
                        targets: Array) -> Array:
  """log P(clip k of video target | queries) over a video vocabulary.

  logits[b, k, n] = <queries[b, k], vocabulary[n, k]> / sqrt(Dv): clip k is
  compared with clip k of the other videos only (spec §3).

  Args:
    queries: [B, K, Dv]; vocabulary: [N, K, Dv], may be sharded over N.
    targets: int [B], rows of the vocabulary.

  Returns:
    float32 [B, K].
  """
  logits = jnp.einsum('BKD,NKD->BKN', queries, vocabulary,
                      preferred_element_type=jnp.float32)
  logits = logits * vocabulary.shape[-1] ** -0.5
  picked = jnp.take_along_axis(logits, targets[:, None, None], -1)[..., 0]
  return picked - jax.nn.logsumexp(logits, -1)
