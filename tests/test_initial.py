"""Shapes of parameters are those of what is made, and traced once."""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import initial


def test_equal_partials_are_traced_once_and_others_are_not():
  traced = []

  def make(sizes, key, scale=1.0):
    traced.append(sizes)
    return {'w': scale * jax.random.normal(key, sizes)}

  def whole(inner, targets, key):
    return {**inner(key), 'targets': jnp.zeros(len(targets))}

  def init(sizes, scale=1.0):
    return functools.partial(whole, functools.partial(
        make, sizes, scale=scale), ('a', 'b'))

  first, again = initial.shapes(init((2, 3))), initial.shapes(init((2, 3)))
  assert first == again == {
      'w': jax.ShapeDtypeStruct((2, 3), np.float32),
      'targets': jax.ShapeDtypeStruct((2,), np.float32)}
  assert traced == [(2, 3)]
  assert initial.shapes(init((4, 3)))['w'].shape == (4, 3)
  initial.shapes(init((4, 3), scale=2.0))
  assert traced == [(2, 3), (4, 3), (4, 3)]


def test_what_cannot_be_told_apart_is_traced_each_time():
  def make(sizes, key):
    return jax.random.normal(key, sizes)

  sizes = [2, 3]
  assert initial.shapes(functools.partial(make, sizes)).shape == (2, 3)
  sizes[0] = 5
  assert initial.shapes(functools.partial(make, sizes)).shape == (5, 3)
