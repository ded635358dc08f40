"""Token merging (ToMe): the tokens of a clip, reduced by bipartite matching.

Source: Bolya et al. 2022 (arXiv 2210.09461), in VideoChat-Flash's variant: no
protected token, the metric is the mean over heads of the tokens themselves,
and each halving puts the tokens it kept first. The output is therefore not in
temporal order.
"""
import jax
import jax.numpy as jnp

# Keeps the cosine finite for an all-zero token; far below any real norm.
SMALLEST_NORM = 1e-30


def merge_schedule(tokens, target):
  """How many tokens each step merges away: halve, then what remains.

  `merge_schedule(3136, 64)` is (1568, 784, 392, 196, 98, 34).

  Raises:
    ValueError: if there are fewer tokens than the target, or target < 1.
  """
  if not 1 <= target <= tokens:
    raise ValueError(
        f'token merging: cannot turn {tokens} tokens into {target}; want a '
        f'target from 1 to {tokens}: change the tokens per clip')
  steps = []
  while tokens > target:
    steps.append(min(tokens - target, tokens // 2))
    tokens -= steps[-1]
  return tuple(steps)


def merge_step(x, size, merged, heads):
  """Merges the `merged` even tokens most similar to an odd one into it.

  Args:
    x: [..., P, D] tokens.
    size: float32 [..., P, 1], how many original tokens each one stands for.
    merged: the number r of tokens to merge, at most P // 2.
    heads: N; the metric is the mean of the N slices of D / N columns.

  Returns:
    x [..., P - r, D] (the kept even tokens by falling similarity, then all odd
    tokens in order) and size [..., P - r, 1].
  """
  wide = x.astype(jnp.float32)
  order, best = _match(wide, heads)
  weighted = jnp.concatenate([wide * size, size], -1)
  even, odd = weighted[..., ::2, :], weighted[..., 1::2, :]
  gone, kept = order[..., :merged], order[..., merged:]
  target = jnp.take_along_axis(best, gone, -1)
  # A one-hot matmul instead of a scatter-add: the same sum on every run.
  one_hot = jax.nn.one_hot(target, odd.shape[-2], dtype=jnp.float32)
  odd = odd + jnp.einsum(
      '...RP,...RD->...PD', one_hot, _take(even, gone),
      precision=jax.lax.Precision.HIGHEST)
  weighted = jnp.concatenate([_take(even, kept), odd], -2)
  size = weighted[..., -1:]
  return (weighted[..., :-1] / size).astype(x.dtype), size


def merge_tokens(x, target, heads):
  """Reduces [..., P, D] tokens to [..., target, D]; static shapes, jit-able.

  Similarities, sums and sizes are float32; the result has the dtype of `x`.
  The authors run this in float16, where near-ties may be decided otherwise.

  Raises:
    ValueError: if D is no multiple of `heads`, or P is less than `target`.
  """
  tokens, width = x.shape[-2:]
  if width % heads:
    raise ValueError(
        f'token merging: width {width} is no multiple of {heads} heads')
  merged, size = x.astype(jnp.float32), jnp.ones((*x.shape[:-1], 1))
  for step in merge_schedule(tokens, target):
    merged, size = merge_step(merged, size, step, heads)
  return merged.astype(x.dtype)


def _match(x, heads):
  """Even tokens by falling similarity, and the best odd token of each.

  x float32 [..., P, D] -> two int32 [..., A], A the number of even tokens.
  """
  metric = jnp.mean(x.reshape(*x.shape[:-1], heads, -1), -2)
  metric = jax.lax.stop_gradient(metric)
  norm = jnp.linalg.norm(metric, axis=-1, keepdims=True)
  metric = metric / jnp.maximum(norm, SMALLEST_NORM)
  similarity = jnp.einsum(
      '...AH,...BH->...AB', metric[..., ::2, :], metric[..., 1::2, :],
      precision=jax.lax.Precision.HIGHEST)
  order = jnp.argsort(jnp.max(similarity, -1), descending=True)
  return order, jnp.argmax(similarity, -1)


def _take(x, index):
  """x [..., P, D] at index [..., R] -> [..., R, D]."""
  return jnp.take_along_axis(x, index[..., None], -2)
