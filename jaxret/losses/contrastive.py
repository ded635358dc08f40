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


def false_negatives(
    similarities: Array, margin: ArrayLike, ids: Array | None = None,
    column_ids: Array | None = None) -> Array:
  """Which columns are too good to be negatives of a row: bool [B, C].

  Those that are more similar to it than its own is, by more than the margin,
  and those that hold its own document once more, of any similarity
  (Qwen3-Embedding, arXiv 2506.05176, has 0.1). Never its own, column b of
  row b.

  Args:
    similarities: [B, C >= B], cosines; margin: what is added to a row's own.
    ids: int [B], the documents of the rows' own; column_ids: int [C], those of
      the columns. None: no document is known to stand there twice.
  """
  own = jnp.eye(similarities.shape[0], similarities.shape[1], dtype=bool)
  found = similarities > jnp.diagonal(similarities)[:, None] + margin
  if ids is not None and column_ids is not None:
    found |= ids[:, None] == column_ids[None]
  return found & ~own


def one_way_info_nce(
    queries: Array, candidates: Array, temperature: ArrayLike,
    negatives: Array | None = None, ids: Array | None = None,
    negative_ids: Array | None = None, margin: ArrayLike | None = None
    ) -> Array:
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
    margin: of `false_negatives`, which are left out; None = none is.

  Returns:
    [B], float32, or float64 for such input.
  """
  dtype = jnp.promote_types(queries.dtype, jnp.float32)
  columns = candidates.astype(dtype)
  if negatives is not None:
    negatives = negatives.reshape(-1, negatives.shape[-1])
    columns = jnp.concatenate([columns, negatives.astype(dtype)])
  scores = queries.astype(dtype) @ columns.T
  logits = scores / temperature
  own = jnp.eye(logits.shape[0], logits.shape[1], dtype=bool)
  if ids is not None:
    same = ids[:, None] == ids[None]
    if negatives is not None:
      again = jnp.zeros((len(ids), len(negatives)), bool)
      if negative_ids is not None:
        again = ids[:, None] == negative_ids.reshape(1, -1)
      same = jnp.concatenate([same, again], 1)
    logits = jnp.where(same & ~own, -jnp.inf, logits)
  if margin is not None:
    logits = jnp.where(false_negatives(scores, margin), -jnp.inf, logits)
  return jax.nn.logsumexp(logits, 1) - jnp.diagonal(logits)


MASKED = -1e9  # what the authors put in place of a masked similarity


def modal_contrastive(
    queries: Array, candidates: Array, temperature: ArrayLike,
    modality: Array | None = None, negatives: Array | None = None,
    positives: Array | None = None, dual: bool = False,
    released: bool = True, margin: ArrayLike | None = None,
    ids: Array | None = None, negative_ids: Array | None = None) -> Array:
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
    negatives: [N, D] or [B, N / B, D], hard negatives, every one of every
      query; the modality mask spares them, since they carry no code.
    positives: int [B], pairs with the same number are each other's positives.
    dual: averages with the loss from candidates to queries.
    released: see above.
    margin, ids [B], negative_ids: `false_negatives`, whose columns are left
      out of both directions unless they are positives; None = none is.

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
    hard = similarity(queries, negatives.reshape(-1, negatives.shape[-1]))
    if released:
      dual, matches = False, own
  def false(left, right=hard[:, :0]):
    if margin is None:
      return None
    return false_negatives(
        jnp.concatenate([left, right], 1), margin / temperature, ids,
        _column_ids(ids, negative_ids, right.shape[1]))
  forward = _positives_loss(jnp.where(same, scores, MASKED), matches, hard,
                            released, false(scores, hard))
  if not dual:
    return forward
  back = scores.T if released else jnp.where(same, scores, MASKED).T
  backward = _positives_loss(
      back, matches, hard[:, :0], released, false(scores.T))
  return (forward + backward) / 2


def _column_ids(ids, negative_ids, n_negatives):
  """int [B + N]: those of all columns, None where even the rows have none."""
  if ids is None or not n_negatives:
    return ids
  if negative_ids is None:
    negative_ids = jnp.full(n_negatives, -1, ids.dtype)
  return jnp.concatenate([ids, negative_ids.reshape(-1)])


def _positives_loss(scores, matches, hard, total, false):
  """-log softmax of each row at its matches, summed or averaged: [B]."""
  columns = jnp.concatenate([scores, hard], 1)
  if false is not None:
    false &= ~jnp.pad(matches, ((0, 0), (0, hard.shape[1])))
    columns = jnp.where(false, -jnp.inf, columns)
  normalizer = jax.nn.logsumexp(columns, 1)
  each = jnp.where(matches, normalizer[:, None] - scores, 0)
  return jnp.sum(each, 1) / (1 if total else jnp.sum(matches, 1))
