"""Losses, one value per example in float32; the training step takes the mean.

None of them knows a model: they take hidden states, matrices and masks. Under
`jit` with a sharded batch they see the global batch, so the negatives of all
devices are in and the gradients are the true global ones.
"""
import functools
import math

import jax
import jax.numpy as jnp


def token_log_likelihood(terms, targets, rows=None, block_size=2048):
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


def token_mean(log_likelihood, mask):
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


def clip_log_likelihood(queries, vocabulary, targets):
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


def info_nce(queries, candidates, temperature, labels):
  """Symmetric in-batch contrastive loss (Radford et al. 2021).

  Pairs that share a label (two captions of one video in a batch) are not each
  other's negatives.

  Args:
    queries, candidates: [B, D], unit vectors; temperature: scalar, logits are
      divided by it; labels: int [B].

  Returns:
    float32 [B], the mean of both directions.
  """
  logits = jnp.einsum('QD,CD->QC', queries, candidates,
                      preferred_element_type=jnp.float32) / temperature
  own = jnp.eye(logits.shape[0], dtype=bool)
  same = (labels[:, None] == labels[None]) & ~own
  logits = jnp.where(same, -jnp.inf, logits)
  diagonal = jnp.diagonal(logits)
  rows = jax.nn.logsumexp(logits, 1) - diagonal
  columns = jax.nn.logsumexp(logits, 0) - diagonal
  return (rows + columns) / 2


def one_way_info_nce(queries, candidates, temperature, negatives=None,
                     ids=None, negative_ids=None):
  """MM-Embed's loss: queries against all positives and negatives (spec §2).

  L[b] = log sum_c exp(q_b . c / tau) - q_b . c_b / tau over the positives of
  the global batch and every hard negative of every query; not symmetric.

  Args:
    queries, candidates: [B, D], unit vectors; candidate i answers query i.
    temperature: tau.
    negatives: [B, N, D] or [M, D].
    ids: int [B], the documents that the candidates are: columns that hold a
      row's own document once more are no negatives of it. None: they are.
    negative_ids: int [B, N] or [M], those of the negatives; None = none of
      them is anyone's positive.

  Returns:
    [B], float32, or float64 for such input.
  """
  dtype = jnp.promote_types(queries.dtype, jnp.float32)
  columns = candidates.astype(dtype)
  if negatives is not None:
    negatives = negatives.reshape(-1, negatives.shape[-1])
    columns = jnp.concatenate([columns, negatives.astype(dtype)])
  logits = queries.astype(dtype) @ columns.T / temperature
  own = jnp.eye(*logits.shape, dtype=bool)
  if ids is not None:
    same = ids[:, None] == ids[None]
    if negatives is not None:
      again = jnp.zeros((len(ids), len(negatives)), bool)
      if negative_ids is not None:
        again = ids[:, None] == negative_ids.reshape(1, -1)
      same = jnp.concatenate([same, again], 1)
    logits = jnp.where(same & ~own, -jnp.inf, logits)
  return jax.nn.logsumexp(logits, 1) - jnp.diagonal(logits)


MASKED = -1e9  # what the authors put in place of a masked similarity


def modal_contrastive(queries, candidates, temperature, modality=None,
                      negatives=None, positives=None, dual=False,
                      released=True):
  """MAMCL: contrast among candidates of the target's modality (UNITE §3).

  Without `modality` it is plain InfoNCE over the global batch. `released`
  computes what the authors' code does; otherwise
    * `dual` masks both directions, not queries to candidates alone;
    * several positives of a query are averaged, not summed, and only those of
      its target's modality count (the code adds about 1e9 for any other);
    * with `negatives`, `dual` and `positives` are heeded, not ignored.

  Args:
    queries, candidates: [B, D], unit vectors; candidate i answers query i.
    temperature: what similarities are divided by; UNITE has 0.03.
    modality: int [B], bit codes of the targets: candidates of another code are
      no negatives of a query. None: no mask.
    negatives: [N, D], hard negatives, every one of every query; they are
      never masked, since they carry no code.
    positives: int [B], pairs with the same number are each other's positives.
    dual: averages with the loss from candidates to queries.
    released: see above.

  Returns:
    [B], float32, or float64 for such input.
  """
  dtype = jnp.promote_types(queries.dtype, jnp.float32)
  def similarity(left, right):
    return jnp.matmul(left.astype(dtype), right.T.astype(dtype)) / temperature
  scores = similarity(queries, candidates)
  own = jnp.eye(len(queries), dtype=bool)
  same = jnp.ones_like(own) if modality is None else (
      modality[:, None] == modality[None])
  matches = own if positives is None else positives[:, None] == positives[None]
  if not released:
    matches &= same
  hard = jnp.zeros((len(queries), 0), dtype)
  if negatives is not None:
    hard = similarity(queries, negatives)
    if released:
      dual, matches = False, own
  forward = _positives_loss(
      jnp.where(same, scores, MASKED), matches, hard, released)
  if not dual:
    return forward
  back = scores.T if released else jnp.where(same, scores, MASKED).T
  backward = _positives_loss(back, matches, hard[:, :0], released)
  return (forward + backward) / 2


def _positives_loss(scores, matches, hard, total):
  """-log softmax of each row at its matches, summed or averaged: [B]."""
  normalizer = jax.nn.logsumexp(jnp.concatenate([scores, hard], 1), 1)
  each = jnp.where(matches, normalizer[:, None] - scores, 0)
  return jnp.sum(each, 1) / (1 if total else jnp.sum(matches, 1))
