"""Ranks of a block under many weights, compiled for the CPU.

One program reads a block once for all weights and writes none of its scores,
which takes an eighth of NumPy's time. Its scores are NumPy's to the last bit:
left to itself, the compiler rounds a product and the sum that follows only
once; here products pass through an exclusive or with a zero that it does not
know. It may also round the smallest numbers to zero: `fits` leaves those out.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

LEFT_OUT = -100.0  # the score of a pair that a cascade left out
PARTS = 'candidate', 'query', 'prior', 'first_stage'
_MIN_SCORES = 1 << 28  # of all weights: with less, compiling takes longer
# Between them no sum, product or difference of sums overflows or is denormal.
_LARGEST, _SMALLEST = 1e18, 1e-10
_LARGEST_WEIGHT, _SMALLEST_WEIGHT = 1e3, 1e-4


def pays(n_scores):
  """Whether so many scores are worth compiling, where there is a CPU for it."""
  return n_scores >= _MIN_SCORES and _cpu() is not None


@functools.cache
def _cpu():
  """The CPU as a device, None where JAX may not use it (JAX_PLATFORMS)."""
  try:
    return jax.local_devices(backend='cpu')[0]
  except RuntimeError:
    return None


def fits(parts, weights):
  """Whether all scores are numbers, and rounded alike by either."""
  table = _table(weights)
  if not _is_zero_or_between(table, _SMALLEST_WEIGHT, _LARGEST_WEIGHT):
    return False
  return all(
      _is_zero_or_between(parts[name], _SMALLEST, _LARGEST)
      for name in PARTS if parts[name] is not None)


def _is_zero_or_between(values, smallest, largest):
  size = np.abs(values)
  # A NaN is its own maximum, and no comparison with it is true.
  return bool(size.max() < largest) and bool(
      ((size > smallest) | (size == 0)).all())


def block_ranks(parts, weights, index, known, size):
  """int64 [W, b], see weighted_ranks.ranks; only of what `fits`.

  Args:
    parts: {name: float32 [b, C] or [1, C], or None}, and bool keep.
    weights: W of cpn.Weights.
    index, known: int and bool [b, R], the relevant candidates.
    size: at least b, for which the program is compiled.
  """
  n_rows, table = len(index), _table(weights)
  of_answers = {
      name: part if part is None else np.take_along_axis(
          part if len(part) == n_rows else np.repeat(part, n_rows, 0), index, 1)
      for name, part in parts.items()}
  scores = _scores(np, of_answers, table.T[..., None, None], lambda x: x)
  values = np.where(known, np.broadcast_to(
      scores, (len(table), *index.shape)), -np.inf)
  best = values.max(2)
  padded = np.arange(size) % n_rows
  arrays = {
      name: part if part is None or len(part) == 1 else part[padded]
      if size > n_rows else part for name, part in parts.items()}
  reached = np.asarray(_reached(*jax.device_put(
      (arrays, table, best[:, padded], np.int32(0)), _cpu())))
  return 1 + reached[:, :n_rows].astype(np.int64) - (
      known & (values == best[..., None])).sum(2)


def _table(weights):
  """float32 [W, 5]: alpha, c, 1 - c, d, 1 - d, as cpn rounds them."""
  alpha, c, d = np.array(weights, np.float32).reshape(-1, 3).T
  return np.stack([alpha, c, 1 - c, d, 1 - d], 1)


@jax.jit
def _reached(parts, table, best, zero):
  """int32 [W, b]: how many of the candidates have the score `best` [W, b]."""
  def rounded(x):
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return jax.lax.bitcast_convert_type(bits ^ zero, jnp.float32)
  def of_weights(own):
    weights, best = own
    scores = _scores(jnp, parts, weights, rounded)
    return jnp.sum(scores >= best[:, None], 1, dtype=jnp.int32)
  return jax.lax.map(of_weights, (table, best))


def _scores(xp, parts, weights, rounded):
  """Scores of parts under weights, in cpn's own order; weights: 5 on axis 0.

  xp: of which library the arrays are; rounded: what a product passes through.
  """
  alpha, c, rest_c, d, rest_d = weights
  scores, query, prior, first, keep = (
      parts[name] for name in (*PARTS, 'keep'))
  if scores is not None and prior is not None:
    scores = scores - rounded(alpha * prior)
  if scores is None:
    scores = query
  elif query is not None:
    scores = rounded(c * query) + rounded(rest_c * scores)
  if first is not None:
    scores = rounded(d * scores) + rounded(rest_d * first)
  return scores if keep is None else xp.where(
      keep, scores, np.float32(LEFT_OUT))
