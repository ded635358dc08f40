"""Losses of prefixes against a loop."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import losses


def unit(*shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape)
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def contrast(vectors):
  return losses.one_way_info_nce(
      vectors['query'], vectors['candidate'], 0.3, vectors.get('negative'))


@pytest.mark.parametrize('weights', [(), (1.0, 0.25, 2.0)])
def test_prefixes_by_a_loop(weights):
  """In float64, each cut, made unit vectors, and contrasted by itself."""
  given = {'query': unit(5, 8), 'candidate': unit(5, 8, seed=1),
           'negative': unit(5, 2, 8, seed=2)}
  got = losses.matryoshka(contrast, given, (8, 3, 1), weights)
  want = np.zeros(5)
  for dim, weight in zip((8, 3, 1), weights or (1, 1, 1)):
    cut = {side: x[..., :dim].astype(np.float64) for side, x in given.items()}
    cut = {side: x / np.linalg.norm(x, axis=-1, keepdims=True)
           for side, x in cut.items()}
    columns = np.concatenate([cut['candidate'],
                              cut['negative'].reshape(-1, dim)])
    scores = cut['query'] @ columns.T / 0.3
    want += weight * (np.log(np.exp(scores).sum(1)) - np.diagonal(scores))
  np.testing.assert_allclose(got, want, rtol=1e-5)
  assert got.dtype == jnp.float32


def test_without_prefixes_it_is_the_loss():
  given = {'query': unit(5, 8), 'candidate': unit(5, 8, seed=1)}
  np.testing.assert_array_equal(
      losses.matryoshka(contrast, given, ()), contrast(given))
  np.testing.assert_array_equal(
      losses.matryoshka(contrast, given, (8,)), contrast(given))


def test_a_prefix_of_zeros_has_a_finite_gradient():
  vectors = jnp.eye(4)[2:]  # of the last, nothing in the first two
  value, gradient = jax.value_and_grad(
      lambda x: losses.prefix(x, 2).sum())(vectors)
  assert value == 0 and np.isfinite(gradient).all()


def test_as_many_weights_as_prefixes():
  with pytest.raises(ValueError, match='zip'):
    losses.matryoshka(contrast, {'query': unit(2, 4), 'candidate': unit(2, 4)},
                      (4, 2), (1.0,))
