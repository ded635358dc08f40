"""Ranks under many weights at once: what a sweep over weights asks for.

A sweep needs no score matrix of its own for each of its weights, only how many
candidates reach the best relevant one. Blocks of rows are read once for all
weights, combined by one compiled program and counted by another: were it one,
the compiler would combine an answer's score twice, and round it in two ways.
"""
import jax
import jax.numpy as jnp
import numpy as np

LEFT_OUT = -100.0  # the score of a pair that a cascade left out
_BLOCK_CELLS = 1 << 18  # few enough for the caches of a core


def ranks(direction, weights, relevant):
  """1-based ranks of the best relevant candidate under each of the weights.

  The score of a pair is d * (c * query + (1 - c) * (candidate - alpha *
  prior)) + (1 - d) * first stage, of the parts that there are; see cpn. Ties
  count against us, as metrics.ranks has them.

  Args:
    direction: a cpn.Direction of Q queries and C candidates.
    weights: W of cpn.Weights.
    relevant: Q arrays of candidate indices, at least one each.

  Returns:
    int64 [W, Q].

  Raises:
    ValueError: for a score that is NaN, a query without a relevant candidate,
      or one that there is not.
  """
  table = np.array([tuple(w) for w in weights], np.float32)
  matrices = {name: getattr(direction, name) for name in (
      'candidate', 'query', 'prior', 'first_stage', 'keep')}
  n_candidates = max(m.shape[1] for m in matrices.values() if m is not None)
  index, known = _padded(relevant, n_candidates)
  size = min(len(relevant), max(1, _BLOCK_CELLS // n_candidates))
  found = np.empty((len(table), len(relevant)), np.int64)
  for start in range(0, len(relevant), size):
    # The last block is moved back, so that one program does.
    start = min(start, len(relevant) - size)
    rows = slice(start, start + size)
    parts = {name: _rows(matrix, rows) for name, matrix in matrices.items()}
    counted = [_count(_combined(parts, *w), index[rows], known[rows])
               for w in table]
    for place, (counts, bad) in enumerate(counted):
      if np.asarray(bad).any():
        raise ValueError(f'a score of query {start + int(np.argmax(bad))} is '
                         'NaN: check the scores that it is made of')
      found[place, rows] = counts
  return found


def _padded(relevant, n_candidates):
  """(candidates int32 [Q, R], bool [Q, R] where there is one), each once."""
  relevant = [np.unique(np.asarray(wanted, np.int64)) for wanted in relevant]
  index = np.zeros((len(relevant), max(map(len, relevant))), np.int32)
  known = np.zeros(index.shape, bool)
  for q, wanted in enumerate(relevant):
    if not len(wanted) or wanted[0] < 0 or wanted[-1] >= n_candidates:
      raise ValueError(f'query {q} has the relevant candidates '
                       f'{wanted.tolist()[:3]}; want one at least, of '
                       f'{n_candidates}')
    index[q, :len(wanted)], known[q, :len(wanted)] = wanted, True
  return index, known


def _rows(matrix, rows):
  """float32 rows of a matrix [Q, C], or of [1, C] that holds for all rows."""
  if matrix is None:
    return None
  part = matrix if len(matrix) == 1 else matrix[rows]
  return jnp.asarray(np.ascontiguousarray(
      part, bool if part.dtype == bool else np.float32))


@jax.jit
def _count(scores, index, known):
  """(ranks [B], bool [B] where a score is NaN) of scores [B, C]."""
  values = jnp.take_along_axis(scores, index, 1)
  best = jnp.max(jnp.where(known, values, -jnp.inf), 1, keepdims=True)
  reached = jnp.sum((scores >= best).astype(jnp.int32), 1)
  among = jnp.sum((known & (values == best)).astype(jnp.int32), 1)
  return 1 + reached - among, jnp.isnan(scores).any(1)


@jax.jit
def _combined(parts, alpha, c, d):
  """The scores [B, C] with weights that are traced, in cpn's own order."""
  candidate, query = parts['candidate'], parts['query']
  if candidate is not None and parts['prior'] is not None:
    candidate = jnp.where(
        alpha == 0, candidate, candidate - alpha * parts['prior'])
  if candidate is None or query is None:
    score = query if candidate is None else candidate
  else:
    score = c * query + (1 - c) * candidate
  if parts['first_stage'] is not None:
    score = jnp.where(d == 1, score, d * score + (1 - d) * parts['first_stage'])
  rows = jnp.broadcast_shapes(*(
      x.shape for x in parts.values() if x is not None))
  score = jnp.broadcast_to(score, rows)
  if parts['keep'] is not None:
    score = jnp.where(parts['keep'], score, LEFT_OUT)
  return score
