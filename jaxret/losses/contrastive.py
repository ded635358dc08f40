"""Contrast within the global batch, from embeddings and masks."""
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def info_nce(queries: Array, candidates: Array, temperature: ArrayLike,
             labels: Array) -> Array:
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


def one_way_info_nce(
    queries: Array, candidates: Array, temperature: ArrayLike,
    negatives: Array | None = None, ids: Array | None = None,
    negative_ids: Array | None = None) -> Array:
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
  own = jnp.eye(logits.shape[0], logits.shape[1], dtype=bool)
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


def modal_contrastive(
    queries: Array, candidates: Array, temperature: ArrayLike,
    modality: Array | None = None, negatives: Array | None = None,
    positives: Array | None = None, dual: bool = False,
    released: bool = True) -> Array:
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
