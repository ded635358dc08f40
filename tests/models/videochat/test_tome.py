"""Token merging against a plain double loop, and what it must preserve."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models.videochat import tome

merge_step = jax.jit(tome.merge_step, static_argnums=(2, 3))
merge_tokens = jax.jit(tome.merge_tokens, static_argnums=(1, 2))


def merge_by_loops(tokens, sizes, merged, heads):
  """One merging step on lists of float64 vectors."""
  width = len(tokens[0]) // heads
  metric = []
  for token in tokens:
    mean = sum(token[h * width:(h + 1) * width] for h in range(heads)) / heads
    metric.append(mean / np.sqrt(np.sum(mean * mean)))
  odd = list(range(1, len(tokens), 2))
  best = {}
  for i in range(0, len(tokens), 2):
    best[i] = max((float(metric[i] @ metric[j]), -j) for j in odd)
  order = sorted(best, key=lambda i: -best[i][0])
  total = [token * size for token, size in zip(tokens, sizes)]
  sizes = list(sizes)
  for i in order[:merged]:
    target = -best[i][1]
    total[target] = total[target] + total[i]
    sizes[target] = sizes[target] + sizes[i]
  out = order[merged:] + odd
  return [total[i] / sizes[i] for i in out], [sizes[i] for i in out]


@pytest.mark.parametrize('tokens, target, heads', [
    (24, 12, 2), (24, 7, 2), (25, 11, 4), (9, 1, 1), (3, 2, 8)])
def test_merging_equals_a_double_loop(tokens, target, heads):
  x = np.random.default_rng(tokens).normal(size=(tokens, 16))
  loop, sizes = list(x), [1.0] * tokens
  for step in tome.merge_schedule(tokens, target):
    loop, sizes = merge_by_loops(loop, sizes, step, heads)
  merged = merge_tokens(jnp.asarray(x, jnp.float32), target, heads)
  np.testing.assert_allclose(merged, np.stack(loop), atol=1e-5)
  assert sum(sizes) == tokens


def test_schedule_halves_and_stops_at_the_target():
  assert tome.merge_schedule(3136, 64) == (1568, 784, 392, 196, 98, 34)
  assert tome.merge_schedule(784, 64) == (392, 196, 98, 34)
  assert tome.merge_schedule(7, 2) == (3, 2)
  assert tome.merge_schedule(16, 16) == ()


def test_sum_of_tokens_is_preserved():
  x = np.random.default_rng(0).normal(size=(2, 3, 30, 8)).astype(np.float32)
  size = jnp.ones((2, 3, 30, 1))
  merged, new_size = merge_step(x, size, 11, 2)
  assert merged.shape == (2, 3, 19, 8)
  np.testing.assert_allclose(new_size.sum(-2), 30)
  np.testing.assert_allclose(
      (merged * new_size).sum(-2), x.sum(-2), atol=1e-5)


def test_each_clip_is_merged_by_itself():
  x = np.random.default_rng(1).normal(size=(5, 32, 8)).astype(np.float32)
  merged = merge_tokens(x, 12, 2)
  order = np.array([3, 3, 0, 4, 1])
  np.testing.assert_allclose(merge_tokens(x[order], 12, 2), merged[order],
                             atol=1e-6)


def test_zero_tokens_merge_to_zero_with_finite_gradient():
  def total(x):
    return tome.merge_tokens(x, 5, 2).sum()
  value, gradient = jax.jit(jax.value_and_grad(total))(np.zeros((12, 4)))
  assert value == 0
  assert np.isfinite(gradient).all()


def test_dtype_is_kept():
  x = jax.ShapeDtypeStruct((12, 4), jnp.bfloat16)
  assert jax.eval_shape(merge_tokens, x, 5, 2) == jax.ShapeDtypeStruct(
      (5, 4), jnp.bfloat16)


def test_impossible_requests_are_answered_in_one_line():
  x = jnp.zeros((8, 6))
  with pytest.raises(ValueError, match='cannot turn 8 tokens into 9'):
    tome.merge_tokens(x, 9, 2)
  with pytest.raises(ValueError, match='width 6 is no multiple of 4 heads'):
    tome.merge_tokens(x, 4, 4)
