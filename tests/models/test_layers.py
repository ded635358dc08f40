"""Attention and rotary positions against loops, dense layers by hand."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models import attention as attention_lib
from jaxret.models import layers


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attention_loop(query, key, value, mask):
  """(output, log-sum-exp) in float64, one score at a time."""
  batch, length, heads, width = query.shape
  share = heads // key.shape[2]
  out = np.zeros((batch, length, heads, width))
  lse = np.full((batch, length, heads), -np.inf)
  for b, t, n in np.ndindex(batch, length, heads):
    visible = np.flatnonzero(np.broadcast_to(
        mask, (batch, length, key.shape[1]))[b, t])
    scores = [query[b, t, n] @ key[b, s, n // share] / math.sqrt(width)
              for s in visible]
    if scores:
      lse[b, t, n] = math.log(sum(map(math.exp, scores)))
      out[b, t, n] = sum(
          math.exp(score - lse[b, t, n]) * value[b, s, n // share].astype(float)
          for score, s in zip(scores, visible))
  return out, lse


def test_attention_is_a_masked_softmax_with_shared_keys():
  query, key = normal(2, 3, 4, 6), normal(2, 5, 2, 6, seed=1)
  value = normal(2, 5, 2, 6, seed=2)
  mask = np.random.default_rng(3).random((2, 3, 5)) < 0.6
  mask[0, 1] = False  # a row that sees nothing
  mask[1, 2] = True
  out, lse = attention_lib.attention(query, key, value, mask)
  want, want_lse = attention_loop(query, key, value, mask)
  seen = mask.any(-1)
  np.testing.assert_allclose(out[seen], want[seen], atol=1e-5)
  np.testing.assert_allclose(lse[seen], want_lse[seen], atol=1e-5)
  assert np.isfinite(out).all() and (np.asarray(lse)[~seen] < -1e29).all()


def test_merged_attention_is_attention_over_the_union():
  query = 3 * normal(2, 4, 4, 6)
  key, value = normal(2, 7, 2, 6, seed=1), normal(2, 7, 2, 6, seed=2)
  mask = np.random.default_rng(3).random((2, 4, 7)) < 0.5
  mask[0, 0, :3] = False  # nothing of the first part
  mask[0, 1, 3:] = False  # nothing of the second
  mask[..., 6] |= ~mask.any(-1)
  whole, whole_lse = attention_lib.attention(query, key, value, mask)
  parts = [attention_lib.attention(query, key[:, part], value[:, part],
                            mask[..., part])
           for part in (slice(0, 3), slice(3, 7))]
  merged = attention_lib.merge_attention(*parts[0], *parts[1])
  np.testing.assert_allclose(merged, whole, atol=1e-6)
  np.testing.assert_allclose(
      np.logaddexp(parts[0][1], parts[1][1]), whole_lse, atol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone():
  query, key = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)
  def score(query_position, key_position):
    turned = [layers.rotary(x, np.array([[position]]), 1e4)
              for x, position in ((query, query_position), (key, key_position))]
    return float(jnp.sum(turned[0] * turned[1]))
  assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-4)
  assert abs(score(7, 3) - score(7, 4)) > 1e-2
  np.testing.assert_allclose(
      layers.rotary(query, np.zeros((1, 1)), 1e4), query, atol=1e-6)


def test_sections_take_their_axis():
  """Each frequency turns by its axis; equal axes are ordinary positions."""
  x, positions = normal(1, 6, 2, 8), np.arange(6)[None]
  axes = np.stack([positions, 2 * positions, positions + 3])
  got = layers.rotary(x, jnp.asarray(axes), 100.0, (1, 2, 1))
  for frequency, axis in enumerate((0, 1, 1, 2)):
    alone = layers.rotary(x, jnp.asarray(axes[axis]), 100.0)
    for half in (frequency, frequency + 4):
      np.testing.assert_allclose(got[..., half], alone[..., half], atol=1e-6)
  same = jnp.broadcast_to(positions, (3, 1, 6))
  np.testing.assert_allclose(
      layers.rotary(x, same, 100.0, (1, 2, 1)),
      layers.rotary(x, jnp.asarray(positions), 100.0), atol=1e-6)


def test_interleaved_sections_take_turns():
  """Time, row, column as long as each lasts; time has the rest."""
  x, positions = normal(1, 6, 2, 16), np.arange(6)[None]
  axes = np.stack([positions, 2 * positions, positions + 3])
  got = layers.rotary(x, jnp.asarray(axes), 100.0, (4, 2, 2), interleaved=True)
  for frequency, axis in enumerate((0, 1, 2, 0, 1, 2, 0, 0)):
    alone = layers.rotary(x, jnp.asarray(axes[axis]), 100.0)
    for half in (frequency, frequency + 8):
      np.testing.assert_allclose(got[..., half], alone[..., half], atol=1e-6)


def test_dense_adds_its_low_rank_term():
  """Along the path of a transposed kernel too."""
  x, kernel, bias = normal(2, 3, 5), normal(5, 4, seed=1), normal(4, seed=2)
  a, b = normal(5, 2, seed=3), normal(2, 4, seed=4)
  dense = layers.Dense(4, use_bias=True, lora_scale=0.5)
  params = {'params': {'kernel': kernel, 'bias': bias}}
  wide = x.astype(np.float64)
  np.testing.assert_allclose(
      dense.apply(params, x), wide @ kernel + bias, atol=1e-5)
  params['lora'] = {'a': a, 'b': b}
  want = wide @ (kernel + 0.5 * (a @ b)) + bias
  np.testing.assert_allclose(dense.apply(params, x), want, atol=1e-5)
  # What is in the collection is taken, not the parameter.
  params['turned'] = {'kernel': 2 * kernel.T}
  np.testing.assert_allclose(
      dense.apply(params, x), want + wide @ kernel, atol=1e-5)


def test_dropout_zeroes_a_share_and_scales_up_the_rest():
  x = 1 + np.abs(normal(40, 500))
  drop = jax.jit(functools.partial(layers.dropout, rate=0.25))
  out = np.asarray(drop(jax.random.key(0), x))
  kept = out != 0
  np.testing.assert_allclose(out[kept], x[kept] / 0.75, rtol=1e-6)
  # Five standard deviations, of all elements, of rows and of columns.
  for axis in (None, 0, 1):
    count = x.size if axis is None else x.shape[axis]
    assert np.abs(kept.mean(axis) - 0.75).max() < 5 * math.sqrt(
        0.25 * 0.75 / count)
  np.testing.assert_array_equal(out, drop(jax.random.key(0), x))
  agree = np.mean((np.asarray(drop(jax.random.key(1), x)) != 0) == kept)
  assert agree == pytest.approx(0.75 ** 2 + 0.25 ** 2, abs=0.02)


def test_rms_norm_by_hand():
  """Of 3 and 4 the mean square is 12.5; in bfloat16 it is still float32."""
  norm = layers.RMSNorm(eps=0.5)
  x = np.array([[3.0, 4.0]], np.float32)
  params = {'params': {'scale': np.array([2.0, -1.0], np.float32)}}
  want = [[6 / math.sqrt(13), -4 / math.sqrt(13)]]
  np.testing.assert_allclose(norm.apply(params, x), want, rtol=1e-6)
  half = norm.apply(params, jnp.asarray(x, jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(np.float32), want, rtol=2 ** -7)


def test_many_queries_and_one_see_a_prefix_as_the_loop_does():
  query, key = normal(2, 3, 4, 6), normal(2, 5, 2, 6, seed=1)
  value = normal(2, 5, 2, 6, seed=2)
  keys = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool)
  want, want_lse = attention_loop(query, key, value, keys[:, None])
  for n in (1, 3):  # one query goes another way than several
    out, lse = attention_lib.attention_to_prefix(query[:, :n], key, value, keys)
    np.testing.assert_allclose(out, want[:, :n], atol=1e-5)
    np.testing.assert_allclose(lse, want_lse[:, :n], atol=1e-5)
  one = attention_lib.attention_of_one(
      query[:, 0], key.transpose(0, 2, 3, 1), value.transpose(0, 2, 1, 3), keys)
  np.testing.assert_allclose(one, want[:, 0], atol=1e-5)


@pytest.mark.parametrize('name, again', [
    ('none', False), (False, False), ('False', False), ('full', True),
    (True, True), ('dots', True), ('offload', True)])
def test_policies_of_what_is_computed_again(name, again):
  assert layers.remat_policy(name)[0] == again
  assert (layers.remat_policy(name)[1] is None) == (
      name not in ('dots', 'offload'))


def test_an_unknown_policy_is_refused():
  with pytest.raises(ValueError, match="model.remat 'all' is not known"):
    layers.remat_policy('all')


@pytest.mark.parametrize('shape', [(6, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_gradients_of_a_product_are_those_of_its_sum(shape):
  """On CPU they are taken another way than the compiler of a TPU gets them."""
  rng = np.random.default_rng(0)
  x, kernel, weight = (rng.normal(size=size).astype(np.float32) for size in (
      shape, (5, 7), (*shape[:-1], 7)))
  def loss(product, x, kernel):
    return (product(x, kernel) * weight).sum()
  found, want = (jax.jit(jax.grad(functools.partial(loss, product), (0, 1)))(
      x, kernel) for product in (layers.product, jnp.matmul))
  for one, other in zip(found, want):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_rows_of_a_product_are_not_turned_while_they_are_computed():
  """What made a training step on CPU a quarter slower."""
  rng = np.random.default_rng(0)
  x, kernel = (rng.normal(size=size).astype(np.float32)
               for size in ((4, 64, 32), (32, 128)))
  def loss(kernel):
    return jnp.square(jax.nn.silu(layers.product(x, kernel))).sum()
  program = jax.jit(jax.grad(loss)).lower(kernel).compile().as_text()
  assert 'f32[128,256]' not in program and 'f32[256,128]' in program
