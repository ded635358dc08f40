"""Losses of similarities that say more than which one is right."""
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def cosent(similarities: Array, grades: Array, temperature: ArrayLike) -> Array:
  """Pairs of a higher grade are to be more similar than those of a lower one.

  log(1 + sum exp((s_l - s_k) / tau)) over all k, l of the global batch with
  grade k > grade l (CoSENT, doi 10.1109/TASLP.2024.3402087); pairs of one
  grade are not compared, and a batch of a single one costs 0.

  Args:
    similarities, grades: [B], of a query and its candidate each.
    temperature: tau.

  Returns:
    A scalar, float32, or float64 for such input.
  """
  scores = similarities.astype(
      jnp.promote_types(similarities.dtype, jnp.float32)) / temperature
  differences = jnp.where(grades[:, None] > grades[None],
                          scores[None] - scores[:, None], -jnp.inf)
  return jax.nn.logsumexp(jnp.append(differences, 0))


def distillation(
    queries: Array, candidates: Array, negatives: Array, temperature: ArrayLike,
    teacher: Array, teacher_temperature: ArrayLike) -> Array:
  """KL divergence of a query's similarities from a teacher's scores: [B].

  sum_j p_j (log p_j - log q_j) over the query's own candidate and its own hard
  negatives, p = softmax(teacher / teacher_temperature),
  q = softmax(similarity / temperature). No factor makes up for the
  temperatures.

  Args:
    queries, candidates: [B, D], unit vectors; negatives: [B, N, D] or [B, D].
    teacher: [B, 1 + N], scores in the same order; they get no gradient.

  Returns:
    [B], float32, or float64 for such input.
  """
  dtype = jnp.promote_types(queries.dtype, jnp.float32)
  own = jnp.concatenate([candidates[:, None], negatives.reshape(
      len(candidates), -1, candidates.shape[-1])], 1)
  similarities = jnp.einsum(
      'QD,QCD->QC', queries.astype(dtype), own.astype(dtype))
  said = jax.nn.log_softmax(similarities / temperature, 1)
  wanted = jax.nn.log_softmax(jax.lax.stop_gradient(
      teacher.astype(dtype)) / teacher_temperature, 1)
  return jnp.sum(jnp.exp(wanted) * (wanted - said), 1)
