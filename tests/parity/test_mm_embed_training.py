"""MM-Embed's loss, and one training step of the whole model with gradients."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret import losses, sharding
from jaxret.models.llava import mm_embed
from jaxret.models.llava import names as mm_embed_names
from tests.parity import mm_embed_reference as reference
from tests.parity.mm_embed_reference import EMBEDDINGS


@pytest.fixture(scope='module')
def arrays(mm_embed_golden):
  return reference.read(mm_embed_golden, 'loss/infonce.npz')


@pytest.fixture(scope='module')
def cases(mm_embed_golden):
  return reference.table(mm_embed_golden, 'loss/cases.json')['cases']


def inputs(arrays, case, dtype):
  """(raw embeddings, keyword arguments) of a case."""
  count = case['hard_negatives']
  raw = {'q': arrays['raw_q'], 'pos': arrays['raw_pos']}
  ids = {}
  if count:
    raw['neg'] = arrays[f'raw_neg{count}']
  if case['dedup']:
    ids['ids'] = jnp.asarray(arrays['pos_id'])
    if count:
      ids['negative_ids'] = jnp.asarray(arrays[f'neg{count}_id'])
  return {key: jnp.asarray(x, dtype) for key, x in raw.items()}, ids


def per_query(unit, temperature, ids):
  return losses.one_way_info_nce(
      unit['q'], unit['pos'], temperature, unit.get('neg'), **ids)


def normalise(raw):
  return {key: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
          for key, x in raw.items()}


def check_case(arrays, case, dtype, suffix, **tolerance):
  raw, ids = inputs(arrays, case, dtype)
  name, temperature = case['name'], case['temperature']
  def of_unit(unit):
    return per_query(unit, temperature, ids).mean()
  unit = normalise(raw)
  np.testing.assert_allclose(
      jax.jit(lambda unit: per_query(unit, temperature, ids))(unit),
      arrays[f'{name}/per_query{suffix}'], err_msg=name, **tolerance)
  for prefix, point, function in (
      ('grad_', unit, of_unit),
      ('grad_raw_', raw, lambda raw: of_unit(normalise(raw)))):
    value, gradients = jax.jit(jax.value_and_grad(function))(point)
    np.testing.assert_allclose(value, arrays[f'{name}/loss{suffix}'],
                               err_msg=name, **tolerance)
    for key, gradient in gradients.items():
      want = arrays[f'{name}/{prefix}{key}{suffix}']
      scale = np.abs(want).max()
      np.testing.assert_allclose(
          gradient / scale, want / scale, err_msg=f'{name} {key}', **tolerance)


@pytest.mark.slow
def test_mm_embed_loss_in_float32(arrays, cases):
  for case in cases:
    check_case(arrays, case, jnp.float32, '', rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_mm_embed_loss_in_float64(arrays, cases):
  with jax.enable_x64(True):
    for case in cases:
      check_case(arrays, case, jnp.float64, '_f64', rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_mm_embed_loss_sees_the_global_batch(arrays, cases):
  """The same on one device and with its rows over several."""
  for case in cases:
    raw, ids = inputs(arrays, case, jnp.float32)
    rows = len(raw['q'])
    mesh = sharding.make_mesh(
        devices=jax.devices()[:np.gcd(rows, len(jax.devices()))])
    def loss(raw, temperature=case['temperature'], ids=ids):
      return per_query(normalise(raw), temperature, ids).mean()
    split = jax.device_put(raw, sharding.batch_sharding(mesh))
    value, gradients = jax.jit(jax.value_and_grad(loss))(split)
    np.testing.assert_allclose(
        value, arrays[f'{case["name"]}/loss'], rtol=1e-4)
    for key, gradient in gradients.items():
      want = arrays[f'{case["name"]}/grad_raw_{key}']
      np.testing.assert_allclose(
          gradient, want, atol=1e-4 * np.abs(want).max())


@pytest.fixture(scope='module')
def model(mm_embed_golden):
  return reference.model(mm_embed_golden)


def step(model, batches, temperature):
  """(loss, (logits, embeddings)), gradients of all parameters."""
  def loss(params):
    query, found = (mm_embed.embed(model.config, params, batches[side])
                    for side in 'qc')
    positives, negatives = jnp.split(found, [len(query)])
    value = losses.one_way_info_nce(
        query, positives, temperature, negatives).mean()
    return value, (query @ found.T / temperature, query, found)
  return jax.jit(jax.value_and_grad(loss, has_aux=True))(model.params)


@pytest.mark.slow
def test_mm_embed_training_step(mm_embed_golden, model):
  arrays = reference.read(mm_embed_golden, 'train/step.npz')
  batches = {side: reference.batch(arrays, model, f'{side}_') for side in 'qc'}
  (value, found), gradients = step(
      model, batches, float(arrays['temperature']))
  np.testing.assert_allclose(value, arrays['loss'], rtol=1e-4)
  for got, key, atol in zip(
      found, ('logits', 'query_embedding', 'cand_embedding'),
      (2 * EMBEDDINGS / arrays['temperature'], EMBEDDINGS, EMBEDDINGS)):
    np.testing.assert_allclose(got, arrays[key], atol=atol, err_msg=key)

  tensors = load_file(
      mm_embed_golden / 'train' / 'grads.safetensors')
  golden = reference.load_tensors(
      tensors, mm_embed_names.MM_EMBED,
      jax.eval_shape(lambda: model.params['params']))
  reference.check_gradients(gradients['params'], golden)


def test_mm_embed_only_unread_tensors_have_no_gradient(
    mm_embed_golden, model):
  """The last layer of the tower and the norm behind it take no part."""
  tensors = load_file(
      mm_embed_golden / 'train' / 'grads.safetensors')
  zero = {key for key, array in tensors.items() if not array.any()}
  layers = model.config.vision.encoder.layers
  unread = {key for key in tensors if f'encoder.layers.{layers}.' in key
            or 'post_layernorm' in key}
  assert zero == unread
  listed = reference.table(mm_embed_golden, 'train/step.json')['zero_grad']
  assert zero == set(listed)
