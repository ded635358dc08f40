"""Adapters merged into parameters."""
import jax
import ml_dtypes
import numpy as np
import pytest

from jaxret import sharding
from jaxret.models import adapters


def random(*shape):
  return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def params(dtype=np.float32):
  return {'params': {'decoder': {
      'layers': {'mlp': {'up': {'kernel': random(2, 4, 6).astype(dtype)}}},
      'embed': {'embedding': random(5, 4).astype(dtype)}},
                     'visual_head': {'kernel': random(4, 3).astype(dtype)}}}


def adapter(**fields):
  lora = {'decoder': {'layers': {'mlp': {'up': {
      'a': random(2, 4, 1), 'b': random(2, 1, 6)}}}}}
  return adapters.Adapter(lora, 0.5)._replace(**fields)


def up(merged):
  return merged['params']['decoder']['layers']['mlp']['up']['kernel']


@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_factors_are_added_in_float32(dtype):
  base, given = params(dtype), adapter()
  factors = given.lora['decoder']['layers']['mlp']['up']
  want = up(base).astype(np.float32) + 0.5 * factors['a'] @ factors['b']
  got = up(adapters.merge(base, given))
  assert got.dtype == dtype
  np.testing.assert_allclose(
      got.astype(np.float32), want.astype(dtype).astype(np.float32), rtol=1e-6)


def test_parameters_stay_where_they_are():
  mesh = sharding.make_mesh({'fsdp': 2}, jax.devices()[:2])
  given = adapter(modules={'visual_head': {'kernel': random(4, 3)}}, rows={
      'decoder/embed/embedding': (np.array([1, 3]), random(2, 4))})
  places = sharding.shardings(mesh, params())
  placed = jax.device_put(params(), places)
  assert not up(placed).sharding.is_fully_replicated
  merged = adapters.merge(placed, given)
  for path, leaf in sharding.flatten(merged).items():
    assert leaf.sharding.is_equivalent_to(
        sharding.flatten(placed)[path].sharding, leaf.ndim), path
    np.testing.assert_allclose(
        leaf, sharding.flatten(adapters.merge(params(), given))[path],
        atol=1e-6)


def test_magnitudes_are_of_the_layers_that_have_them():
  magnitude = np.stack([np.full(6, np.nan), np.arange(1, 7)]).astype(np.float32)
  path = 'decoder/layers/mlp/up'
  got = up(adapters.merge(params(), adapter(magnitude={path: magnitude})))
  plain = up(adapters.merge(params(), adapter()))
  np.testing.assert_allclose(got[0], plain[0], rtol=1e-6)
  np.testing.assert_allclose(
      np.linalg.norm(got[1], axis=0), np.arange(1, 7), rtol=1e-5)
  np.testing.assert_allclose(
      got[1] / np.linalg.norm(got[1], axis=0),
      plain[1] / np.linalg.norm(plain[1], axis=0), rtol=1e-4, atol=1e-6)


def test_what_is_whole_takes_the_place_of_the_model_s():
  head, embedding = random(4, 3) + 1, random(5, 4) + 1
  merged = adapters.merge(params(), adapter(
      visual_head=head, modules={
          'decoder': {'embed': {'embedding': embedding}},
          'unread': {'x': random(3)}}))['params']
  np.testing.assert_array_equal(merged['visual_head']['kernel'], head)
  np.testing.assert_array_equal(merged['decoder']['embed']['embedding'],
                                embedding)
  assert 'unread' not in merged


@pytest.mark.parametrize('fields, message', [
    ({'lora': {'decoder': {'layers': {'mlp': {'up': {
        'a': random(1, 4, 1), 'b': random(1, 1, 6)}}}}}}, r'up/a of the shape '
     r'\(1, 4, 1\), this model wants \(2, 4, 1\)'),
    ({'visual_head': random(3, 4)}, 'visual_head/kernel of the shape'),
    ({'shifts': {'visual_head/kernel': random(3)}}, 'visual_head/kernel'),
    ({'magnitude': {'decoder/layers/mlp/up': random(6)}}, 'its magnitude'),
    ({'rows': {'decoder/embed/embedding': (np.array([5]), random(1, 4))}},
     'of which this model has 5'),
    ({'rows': {'decoder/embed/embedding': (np.array([1]), random(1, 3))}},
     r'of the shape \(1, 3\)'),
    ({'lora': {'vision': {'x': {'a': random(2, 1), 'b': random(1, 2)}}}},
     'holds nothing that this model reads')])
def test_nothing_is_broadcast(fields, message):
  with pytest.raises(ValueError, match=message):
    adapters.merge(params(), adapter(**fields))
