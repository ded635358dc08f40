"""CoSENT and distillation against loops over pairs and candidates."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import losses


def unit(*shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize('temperature', [0.05, 0.7])
def test_cosent_by_a_loop(temperature):
  grades = np.array([0.0, 3.5, 1.0, 1.0, 5.0, 3.5, 0.0])
  cosines = np.random.default_rng(0).uniform(-1, 1, 7)
  total = 1.0
  for higher in range(7):
    for lower in range(7):
      if grades[higher] > grades[lower]:
        total += math.exp((cosines[lower] - cosines[higher]) / temperature)
  got = losses.cosent(jnp.asarray(cosines, jnp.float32),
                      jnp.asarray(grades, jnp.float32), temperature)
  assert got.dtype == jnp.float32
  assert float(got) == pytest.approx(math.log(total), rel=1e-5)


def test_pairs_of_one_grade_cost_nothing():
  value, gradient = jax.value_and_grad(losses.cosent)(
      jnp.array([0.1, 0.9, -0.3]), jnp.full(3, 2.0), 0.05)
  assert value == 0 and not gradient.any()


def test_the_gradient_of_cosent_orders_by_grade():
  """What is too similar for its grade goes down, the other up."""
  gradient = jax.grad(losses.cosent)(
      jnp.array([0.9, 0.1]), jnp.array([1.0, 2.0]), 0.05)
  assert gradient[0] > 0 > gradient[1]


@pytest.mark.parametrize('shape', [(4, 3, 6), (4, 6)])
def test_distillation_by_a_loop(shape):
  query, candidate, negative = unit(4, 6), unit(4, 6, seed=1), unit(
      *shape, seed=2)
  several = negative.reshape(4, -1, 6)
  teacher = np.random.default_rng(3).normal(size=(4, 1 + several.shape[1]))
  got = losses.distillation(
      *(jnp.asarray(x, jnp.float32) for x in (query, candidate, negative)), 0.2,
      jnp.asarray(teacher, jnp.float32), 0.5)
  for i in range(4):
    student = [query[i] @ x / 0.2 for x in (candidate[i], *several[i])]
    p, q = (np.exp(x) / np.exp(x).sum() for x in (
        teacher[i] / 0.5, np.array(student)))
    assert float(got[i]) == pytest.approx(
        sum(a * math.log(a / b) for a, b in zip(p, q)), rel=1e-4)


def test_a_student_that_says_the_same_costs_nothing():
  query, candidate, negative = (jnp.asarray(x, jnp.float32) for x in (
      unit(3, 5), unit(3, 5, seed=1), unit(3, 2, 5, seed=2)))
  own = jnp.concatenate([candidate[:, None], negative], 1)
  teacher = jnp.einsum('QD,QCD->QC', query, own)
  value, gradient = jax.value_and_grad(
      lambda q: losses.distillation(
          q, candidate, negative, 0.3, teacher, 0.3).sum())(query)
  assert value == pytest.approx(0, abs=1e-6)
  np.testing.assert_allclose(gradient, 0, atol=1e-5)
