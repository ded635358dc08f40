"""Losses against plain softmaxes and Python loops."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import losses


def normal(*shape, seed=0, dtype=np.float32):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def log_softmax(logits):
  """Of the last axis, in float64."""
  logits = np.asarray(logits, np.float64)
  peak = logits.max(-1, keepdims=True)
  return logits - peak - np.log(
      np.exp(logits - peak).sum(-1, keepdims=True))


def vocabulary_case(vocab_size, ranks, dtype=jnp.float32):
  """Terms of `ranks` widths whose logits have a spread of about 3."""
  terms = [(jnp.asarray(normal(2, 3, rank, seed=i), dtype),
            jnp.asarray(3 * rank ** -0.5 * normal(rank, vocab_size, seed=9 + i),
                        dtype))
           for i, rank in enumerate(ranks)]
  targets = np.random.default_rng(5).integers(vocab_size, size=(2, 3))
  # First and last column: the seams between blocks lie beside them.
  targets[0, 0], targets[1, 2] = 0, vocab_size - 1
  return terms, targets.astype(np.int32)


def plain_log_likelihood(terms, targets):
  logits = sum(jnp.matmul(left, right, preferred_element_type=jnp.float32)
               for left, right in terms)
  return jnp.take_along_axis(
      jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]


@pytest.mark.parametrize('vocab_size, block_size', [
    (384, 128),   # whole blocks
    (301, 128),   # the last block is moved back
    (129, 128),   # a block with one new column
    (300, 512),   # one block
    (100, 64),    # a vocabulary smaller than the smallest block
])
@pytest.mark.parametrize('ranks', [(16,), (16, 4)])
def test_blockwise_log_likelihood_and_gradients(vocab_size, block_size, ranks):
  terms, targets = vocabulary_case(vocab_size, ranks)
  logits = sum(np.asarray(left, np.float64) @ np.asarray(right, np.float64)
               for left, right in terms)
  want = np.take_along_axis(log_softmax(logits), targets[..., None], -1)[..., 0]
  weight = normal(2, 3, seed=7)

  def weighted(function, terms):
    value = function(terms, targets)
    return jnp.sum(value * weight), value

  blockwise = functools.partial(
      losses.token_log_likelihood, block_size=block_size)
  (_, got), gradients = jax.jit(jax.value_and_grad(
      functools.partial(weighted, blockwise), has_aux=True))(terms)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=1e-5)
  plain = jax.jit(jax.grad(
      functools.partial(weighted, plain_log_likelihood), has_aux=True))(
          terms)[0]
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5),
               gradients, plain)


def test_blockwise_log_likelihood_sums_in_float32_from_bfloat16():
  terms, targets = vocabulary_case(301, (16,), jnp.bfloat16)
  got = losses.token_log_likelihood(terms, targets, block_size=128)
  assert got.dtype == jnp.float32
  (left, right), = terms
  want = log_softmax(np.asarray(left, np.float64)
                     @ np.asarray(right, np.float64))
  np.testing.assert_allclose(
      got, np.take_along_axis(want, targets[..., None], -1)[..., 0], atol=1e-5)


def test_blockwise_log_likelihood_never_holds_all_logits():
  rows, vocab_size, block_size = 1024, 8192, 256
  terms = [(jnp.ones((rows, 4)), jnp.ones((4, vocab_size)))]
  loss = jax.jit(jax.grad(lambda terms: losses.token_log_likelihood(
      terms, jnp.zeros(rows, jnp.int32), block_size=block_size).sum()))
  memory = loss.lower(terms).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 4 * rows * vocab_size / 4


def test_extreme_logits_stay_finite():
  terms = [(jnp.array([[1e4, -1e4]]), jnp.eye(2, 300))]
  for target, want in ((0, 0.0), (1, -2e4), (299, -1e4)):
    got = losses.token_log_likelihood(
        terms, jnp.array([target]), block_size=128)
    np.testing.assert_allclose(got, [want], rtol=1e-6)


def test_token_mean_is_the_mean_over_tokens_of_the_batch():
  value = normal(3, 5)
  mask = np.arange(5) < np.array([[5], [1], [3]])
  total, count = 0.0, 0
  for b in range(3):
    for t in range(5):
      if mask[b, t]:
        total, count = total - value[b, t], count + 1
  got = losses.token_mean(value, mask)
  np.testing.assert_allclose(got.mean(), total / count, rtol=1e-6)
  np.testing.assert_allclose(got[1], -value[1, 0] * 3 / count, rtol=1e-6)
  nothing = losses.token_mean(value, np.zeros_like(mask))
  np.testing.assert_array_equal(nothing, 0)


def test_clip_log_likelihood_compares_a_clip_with_its_own_position():
  batch, clips, videos, width = 3, 2, 5, 4
  queries = normal(batch, clips, width)
  vocabulary = 3 * normal(videos, clips, width, seed=1)
  targets = np.array([4, 0, 4], np.int32)
  want = np.empty((batch, clips))
  for b in range(batch):
    for k in range(clips):
      logits = [queries[b, k] @ vocabulary[n, k] / math.sqrt(width)
                for n in range(videos)]
      want[b, k] = logits[targets[b]] - math.log(sum(map(math.exp, logits)))
  got = jax.jit(losses.clip_log_likelihood)(queries, vocabulary, targets)
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert got.dtype == jnp.float32


def contrastive_loop(queries, candidates, temperature, labels):
  """Float64 losses of each pair, both directions averaged."""
  n, values = len(queries), []
  score = queries.astype(np.float64) @ candidates.T.astype(
      np.float64) / temperature
  for i in range(n):
    others = [j for j in range(n) if j == i or labels[j] != labels[i]]
    row = math.log(sum(math.exp(score[i, j]) for j in others))
    column = math.log(sum(math.exp(score[j, i]) for j in others))
    values.append((row + column) / 2 - score[i, i])
  return values


@pytest.mark.parametrize('labels', [(0, 1, 2, 3), (0, 1, 0, 0), (2, 2, 2, 2)])
def test_info_nce_leaves_out_pairs_of_one_label(labels):
  queries, candidates = normal(4, 6), normal(4, 6, seed=1)
  queries /= np.linalg.norm(queries, axis=1, keepdims=True)
  candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
  labels = np.array(labels, np.int32)
  got = losses.info_nce(queries, candidates, 0.07, labels)
  np.testing.assert_allclose(
      got, contrastive_loop(queries, candidates, 0.07, labels), atol=1e-5)
  gradient = jax.grad(lambda q: losses.info_nce(
      q, candidates, 0.07, labels).sum())(queries)
  assert np.isfinite(gradient).all()


def modal_by_loops(query, candidate, codes, tau, negatives=(), matches=None):
  """-log softmax over the candidates of the target's code, one by one."""
  values = []
  for i, q in enumerate(query):
    scores = [q @ c / tau for j, c in enumerate(candidate)
              if codes[i] == codes[j]]
    total = np.log(sum(np.exp(s) for s in scores)
                   + sum(np.exp(q @ n / tau) for n in negatives))
    own = [i] if matches is None else [
        j for j in range(len(candidate))
        if matches[i] == matches[j] and codes[i] == codes[j]]
    values.append([total - q @ candidate[j] / tau for j in own])
  return values


def modal_problem():
  random = np.random.default_rng(3)
  q, c, n = random.normal(size=(3, 6, 4))
  codes = np.array([1, 2, 3, 1, 2, 1])
  return q, c, n, codes, np.array([0, 1, 2, 0, 0, 3])


def test_modal_contrastive_by_loops():
  q, c, n, codes, _ = modal_problem()
  for negatives in (None, n):
    got = losses.modal_contrastive(
        *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.5,
        jnp.asarray(codes), negatives)
    want = modal_by_loops(q, c, codes, 0.5, () if negatives is None else n)
    np.testing.assert_allclose(got, [v for v, in want], rtol=1e-4)
    assert got.dtype == jnp.float32


def test_corrected_modal_contrastive_by_loops():
  """Both directions masked, positives averaged within their modality."""
  q, c, n, codes, groups = modal_problem()
  got = losses.modal_contrastive(
      *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.5, jnp.asarray(codes),
      jnp.asarray(n, jnp.float32), jnp.asarray(groups), dual=True,
      released=False)
  forward = modal_by_loops(q, c, codes, 0.5, n, groups)
  back = modal_by_loops(c, q, codes, 0.5, (), groups)
  np.testing.assert_allclose(
      got, [(np.mean(f) + np.mean(b)) / 2 for f, b in zip(forward, back)],
      rtol=1e-4)


def test_released_modal_contrastive_leaves_the_way_back_unmasked():
  q, c, _, codes, _ = modal_problem()
  q, c = (jnp.asarray(x, jnp.float32) for x in (q, c))
  released, corrected = (losses.modal_contrastive(
      q, c, 0.5, jnp.asarray(codes), dual=True, released=released)
      for released in (True, False))
  plain = losses.modal_contrastive(c, q, 0.5)
  masked = losses.modal_contrastive(q, c, 0.5, jnp.asarray(codes))
  np.testing.assert_allclose(released, (plain + masked) / 2, rtol=1e-5)
  assert (np.asarray(corrected) <= np.asarray(released) + 1e-6).all()
  assert np.abs(corrected - released).max() > 0.01


@pytest.mark.parametrize('dedup', [False, True])
def test_one_way_info_nce_by_loops(dedup):
  q, c, _, _, documents = modal_problem()
  n = np.random.default_rng(4).normal(size=(6, 2, 4))
  others = np.array([[0, 7], [8, 0], [2, 2], [9, 1], [3, 0], [5, 3]])
  got = losses.one_way_info_nce(
      *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.5,
      jnp.asarray(n, jnp.float32), *(
          (jnp.asarray(documents), jnp.asarray(others)) if dedup else ()))
  for i in range(6):
    kept = [q[i] @ c[j] / 0.5 for j in range(6)
            if i == j or not dedup or documents[j] != documents[i]]
    kept += [q[i] @ x / 0.5 for x, document in zip(
        n.reshape(-1, 4), others.ravel())
        if not dedup or document != documents[i]]
    want = np.log(np.exp(kept).sum()) - q[i] @ c[i] / 0.5
    np.testing.assert_allclose(got[i], want, rtol=1e-4)
