"""UNITE's losses, their gradients, their semantics on several ranks, codes."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import losses, sharding
from jaxret.data.qwen2_vl import prompts as unite_prompts
from jaxret.models.qwen2_vl import model as qwen2_vl
from tests.parity import unite_reference as reference

EMBEDDINGS = ('q', 'c', 'neg')


@pytest.fixture(scope='module')
def tables(unite_golden):
  return reference.table(unite_golden, 'criterion/cases.json')


@pytest.fixture(scope='module')
def arrays(unite_golden):
  return reference.read(unite_golden, 'criterion/criterion.npz')


@pytest.fixture(scope='module')
def ranks(unite_golden):
  return reference.read(unite_golden, 'criterion/criterion_dist.npz')


def loss_cases(tables):
  return [case for case in tables['cases'] if 'dual_loss_flag' in case]


def inputs(arrays, case, dtype):
  """(embeddings {'q', 'c'[, 'neg']}, the loss as a function of them)."""
  name = case['name']
  embeddings = {key: jnp.asarray(arrays[f'{name}/{key}'], dtype)
                for key in EMBEDDINGS if f'{name}/{key}' in arrays}
  def optional(flag, key):
    return jnp.asarray(arrays[f'{name}/{key}']) if case[flag] else None
  def loss(embeddings):
    return losses.modal_contrastive(
        embeddings['q'], embeddings['c'], case['temp'],
        modality=optional('target_modal_mask', 'target_modal'),
        negatives=embeddings['neg'] if case['has_negative'] else None,
        positives=optional('idx', 'idx'), dual=case['dual_loss_flag'])
  return embeddings, loss


def value_and_gradients(arrays, case, dtype):
  embeddings, loss = inputs(arrays, case, dtype)
  value, gradients = jax.jit(jax.value_and_grad(
      lambda embeddings: loss(embeddings).mean()))(embeddings)
  return float(value), jax.tree.map(np.asarray, gradients)


def test_unite_losses_and_gradients_in_float32(tables, arrays):
  for case in loss_cases(tables):
    value, gradients = value_and_gradients(arrays, case, jnp.float32)
    name = case['name']
    np.testing.assert_allclose(value, arrays[f'{name}/loss'], rtol=1e-4,
                               atol=1e-6, err_msg=name)
    for key, gradient in gradients.items():
      np.testing.assert_allclose(gradient, arrays[f'{name}/grad_{key}'],
                                 atol=1e-4, err_msg=f'{name} {key}')


@pytest.mark.slow
def test_unite_losses_and_gradients_in_float64(tables, arrays):
  with jax.enable_x64(True):
    for case in loss_cases(tables):
      value, gradients = value_and_gradients(arrays, case, jnp.float64)
      name = case['name']
      np.testing.assert_allclose(value, arrays[f'{name}/loss_f64'], rtol=1e-6,
                                 atol=1e-12, err_msg=name)
      for key, gradient in gradients.items():
        want = arrays[f'{name}/grad_{key}_f64']
        np.testing.assert_allclose(
            gradient, want, rtol=1e-6, atol=1e-6 * max(1, np.abs(want).max()),
            err_msg=f'{name} {key}')


def test_unite_masks_are_what_the_code_builds(tables, arrays):
  for case in loss_cases(tables):
    name = case['name']
    if case['target_modal_mask']:
      codes = arrays[f'{name}/target_modal']
      np.testing.assert_array_equal(
          codes[:, None] == codes[None], arrays[f'{name}/modal_mask'] > 0)
    if f'{name}/sim_q2c' in arrays:
      np.testing.assert_allclose(
          arrays[f'{name}/q'] @ arrays[f'{name}/c'].T / case['temp'],
          arrays[f'{name}/sim_q2c'], rtol=1e-4, atol=1e-4)


def test_unite_normalised_similarity(tables, arrays):
  """The unit vectors of our model, weighted as in the golden data."""
  for case in tables['cases']:
    if case in loss_cases(tables):
      continue
    name = case['name']
    q, c = (jnp.asarray(arrays[f'{name}/{key}']) for key in 'qc')
    def weighted(q, c, name=name, temperature=case['temp']):
      scores = qwen2_vl.unit(q) @ qwen2_vl.unit(c).T / temperature
      return jnp.sum(scores * arrays[f'{name}/w']), scores
    (_, scores), gradients = jax.value_and_grad(
        weighted, (0, 1), has_aux=True)(q, c)
    for got, key in ((scores, 'sim_q2c'), (scores.T, 'sim_c2q'),
                     *zip(gradients, ('grad_q', 'grad_c'))):
      np.testing.assert_allclose(
          got, arrays[f'{name}/{key}'], rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize('n_devices', [1, 4, 8])
def test_unite_ranks_hold_slices_of_the_global_gradient(
    tables, ranks, n_devices):
  """Each rank's gradient is ours for its rows; on any number of devices.

  Data-parallel training then averages them over the ranks: 1 / ranks of ours.
  """
  for case in tables['dist_cases']:
    embeddings, loss = inputs(ranks, case, jnp.float32)
    rows = len(embeddings['q'])
    mesh = sharding.make_mesh(
        devices=jax.devices()[:np.gcd(rows, n_devices)])
    embeddings = jax.device_put(embeddings, sharding.batch_sharding(mesh))
    value, gradients = jax.jit(jax.value_and_grad(
        lambda embeddings, loss=loss: loss(embeddings).mean()))(embeddings)
    name = case['name']
    np.testing.assert_allclose(
        np.full(case['world_size'], value), ranks[f'{name}/loss_per_rank'],
        rtol=1e-4, err_msg=name)
    for key, gradient in gradients.items():
      want = ranks[f'{name}/grad_{key}_per_rank']
      np.testing.assert_allclose(
          np.asarray(gradient).reshape(want.shape), want, atol=1e-4,
          err_msg=f'{name} {key}')


def test_unite_modality_codes(tables):
  for names, code in tables['modality_encode'].items():
    assert unite_prompts.modality_code(names) == code, names
  for code, names in tables['modality_decode'].items():
    assert ','.join(sorted(
        word for word, bit in unite_prompts.CODES.items()
        if bit & int(code))) == names


def test_unite_corrected_loss_differs_only_where_the_spec_says(
    tables, arrays):
  """Plain and masked losses are as released; the others have a name each."""
  for case in loss_cases(tables):
    embeddings, released = inputs(arrays, case, jnp.float32)
    corrected = functools.partial(
        losses.modal_contrastive, embeddings['q'], embeddings['c'],
        case['temp'], released=False)
    name = case['name']
    modality = (jnp.asarray(arrays[f'{name}/target_modal'])
                if case['target_modal_mask'] else None)
    if not (case['idx'] or case['has_negative'] or (
        case['dual_loss_flag'] and case['target_modal_mask'])):
      np.testing.assert_allclose(
          corrected(modality=modality, dual=case['dual_loss_flag']),
          released(embeddings), rtol=1e-6, err_msg=name)
