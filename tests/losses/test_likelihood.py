"""Likelihoods of tokens and clips against plain softmaxes and loops."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import executed_flops, losses


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


@pytest.mark.parametrize('trained, products', [(None, 1), ((0, 2, 3), 3),
                                               ((0, 1, 2, 3), 4)])
def test_it_executes_one_product_more_and_holds_no_logits(trained, products):
  """Logits of a block again backward; a gradient only of what is trained."""
  tokens, width, vocabulary = 256, 64, 32768
  shapes = (tokens, width), (width, vocabulary), (tokens, 2), (2, vocabulary)
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  def total(x, kernel, a, b, targets):
    return losses.token_log_likelihood([(x, kernel), (a, b)], targets).sum()
  run = total if trained is None else jax.grad(total, trained)
  compiled = jax.jit(run).lower(
      *arrays, jax.ShapeDtypeStruct((tokens,), jnp.int32)).compile()
  least = 2 * tokens * width * vocabulary
  assert executed_flops.executed(compiled) / least == pytest.approx(
      products, rel=0.07)
  assert compiled.memory_analysis().temp_size_in_bytes < (
      4 * tokens * vocabulary / 2)
