"""LECCR's losses and their gradients, alone and together."""
import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret.losses import leccr as losses
from jaxret.sharding import flatten
from tests.parity import leccr_reference as reference
from tests.parity.leccr_reference import (
    ATOL,
    GRADIENT_ATOL,
    batch_first,
    check,
)

BRANCHES = ('image', 'video')
RELEASED = losses.PRESETS['released']
CORRECTED = losses.PRESETS['corrected']


@pytest.fixture(scope='module')
def arrays(leccr_golden):
  return reference.read(leccr_golden, 'image_model.npz')


@pytest.fixture(scope='module')
def features(arrays):
  """The golden features, as ours are laid out."""
  return {'image': arrays['feat/image'], 'src': arrays['feat/src'],
          'tgt': arrays['feat/tgt'],
          'slots': batch_first(arrays['feat/slots'])}


@pytest.fixture(scope='module')
def temperature(leccr_golden):
  return load_file(
      leccr_golden / 'image_model_params.safetensors')['temp']


def value_and_grad(function, *arguments):
  """Of the mean of a loss, by all arguments."""
  return jax.jit(jax.value_and_grad(
      lambda *inputs: function(*inputs).mean(),
      tuple(range(len(arguments)))))(*arguments)


@pytest.mark.parametrize('name', ['itc_idx', 'itc_noidx'])
def test_leccr_contrastive_loss(arrays, features, temperature, name):
  wanted = reference.sub(arrays, f'{name}/')
  labels = arrays['idx'] if name == 'itc_idx' else None
  value, gradients = value_and_grad(
      functools.partial(losses.contrastive, labels=labels),
      features['image'], features['src'], temperature)
  check(value, wanted['value'], ATOL)
  for argument, got in zip(('image', 'text', 'temp'), gradients):
    check(got, wanted[f'grad_{argument}'], GRADIENT_ATOL, argument)


def test_leccr_slot_contrastive_loss(arrays, features, temperature):
  wanted = reference.sub(arrays, 'slot_itc/')
  value, gradients = value_and_grad(
      losses.slot_contrastive, features['slots'], features['src'], temperature)
  check(value, wanted['value'], ATOL)
  check(batch_first(gradients[0]), wanted['grad_slots'], GRADIENT_ATOL)
  check(gradients[1], wanted['grad_text'], GRADIENT_ATOL)
  check(gradients[2], wanted['grad_temp'], GRADIENT_ATOL)


def test_leccr_slot_regularization(arrays):
  slots = batch_first(arrays['interaction/slots_raw'])
  value, (gradient,) = value_and_grad(losses.slot_regularization, slots)
  check(value, arrays['reg/value'], ATOL)
  check(batch_first(gradient), arrays['reg/grad_slots_raw'], GRADIENT_ATOL)


def test_leccr_description_vision_loss(leccr_golden, arrays):
  module, params, _ = reference.model(leccr_golden, 'image')
  wanted = reference.sub(arrays, 'cv/')
  slots = batch_first(arrays['interaction/slots_raw'])
  tokens, labels = arrays['image_tokens'], arrays['idx']

  def loss(slots, tokens, params, norm_axis=RELEASED.norm_axis):
    def head(name, x):
      return module.apply(params, x, method=lambda m, x: m.heads(name, x))
    return losses.description_vision(
        head('matched_slot', slots), head('matched_vision', tokens), labels,
        norm_axis)

  value, gradients = value_and_grad(loss, slots, tokens, params)
  check(value, wanted['value'], ATOL)
  check(batch_first(gradients[0]), wanted['grad_slots_raw'], GRADIENT_ATOL)
  check(gradients[1], wanted['grad_image_tokens'], GRADIENT_ATOL)
  heads = gradients[2]['params']['heads']
  check(heads['matched_slot']['kernel'].T, wanted['grad_cproj_weight'],
        GRADIENT_ATOL)
  check(heads['matched_vision']['kernel'].T, wanted['grad_vproj_weight'],
        GRADIENT_ATOL)
  corrected = jax.jit(functools.partial(
      loss, norm_axis=CORRECTED.norm_axis))(slots, tokens, params)
  check(corrected.mean(), wanted['variant_feature_axis_norm_value'], ATOL)


def test_leccr_description_vision_similarity(leccr_golden, arrays):
  module, params, _ = reference.model(leccr_golden, 'image')
  def similarity(params):
    def head(module, name, x):
      return module.heads(name, x)
    return losses.description_similarity(
        module.apply(params, 'matched_slot',
                     batch_first(arrays['interaction/slots_raw']),
                     method=head),
        module.apply(params, 'matched_vision', arrays['image_tokens'],
                     method=head),
        RELEASED.norm_axis, np.ones(arrays['image_tokens'].shape[:2], bool))
  check(jax.jit(similarity)(params), arrays['cv/sim'], ATOL)


def test_leccr_softened_matching(arrays, features):
  wanted = reference.sub(arrays, 'dstl/')

  def loss(visual, target, source, slots, alpha=0.8,
           slot_rows=RELEASED.slot_rows):
    return losses.softened_matching(target, visual, losses.softened_targets(
        source, visual, slots, alpha, slot_rows))

  inputs = [features[name] for name in ('image', 'tgt', 'src', 'slots')]
  value, gradients = value_and_grad(loss, *inputs)
  check(value, wanted['value'], ATOL)
  check(gradients[0], wanted['grad_image'], GRADIENT_ATOL)
  check(gradients[1], wanted['grad_tgt'], GRADIENT_ATOL)
  assert not np.any(gradients[2]) and not np.any(gradients[3])
  for name in (name for name in wanted if name.startswith('value_alpha_')):
    alpha = float(name.removeprefix('value_alpha_'))
    check(jax.jit(loss)(*inputs, alpha).mean(), wanted[name], ATOL, name)
  corrected = jax.jit(functools.partial(
      loss, slot_rows=CORRECTED.slot_rows))(*inputs)
  check(corrected.mean(), wanted['variant_transposed_slot_term_value'], ATOL)


def test_leccr_softened_targets(arrays, features):
  wanted = reference.sub(arrays, 'dstl/')
  by_visual = losses.min_max(features['src'] @ features['image'].T)
  check(by_visual, wanted['logits_sv_norm'], ATOL)
  by_slots = losses.min_max(
      losses.slot_similarity(features['slots'], features['src']))
  check(by_slots, wanted['logits_sc_norm'], ATOL)
  check(losses.softened_targets(
      features['src'], features['image'], features['slots'],
      slot_rows=RELEASED.slot_rows), wanted['labels'], ATOL)


def forward(module, weights, labels, mask):
  """(total, (the authors' five terms, single losses)) of golden inputs."""
  def run(params, visual, source, target, arrays):
    inputs = {**arrays, 'text_hidden_src': source, 'text_hidden_tgt': target}
    found = reference.features(module, params, visual, mask, inputs)
    parts = losses.terms(found, RELEASED, labels, mask)
    mean = {name: value.mean() for name, value in parts.items()}
    share = weights['softened_weight']
    def weighted(name):
      return weights[f'{name}_weight'] * mean[name]
    named = {
        'vs_plus_cv': mean['source'] + weighted('description'),
        'vt_with_dstl': (1 - share) * mean['target'] + weighted('softened'),
        'st': mean['languages'], 'slot_itc_weighted': weighted('slot'),
        'reg_weighted': weighted('regularization')}
    return losses.total(parts, weights).mean(), (named, mean)
  return run


@pytest.fixture(scope='module', params=BRANCHES)
def run(request, leccr_golden):
  """(branch, arrays, outputs and gradients of the whole loss)."""
  branch = request.param
  arrays = reference.read(leccr_golden, f'{branch}_model.npz')
  module, params, weights = reference.model(leccr_golden, branch)
  visual = arrays['image_tokens' if branch == 'image' else 'frames']
  mask = arrays.get('frame_mask')
  loss = forward(module, Weights(weights), arrays['idx'], mask)
  outputs, gradients = jax.jit(jax.value_and_grad(
      loss, (0, 1, 2, 3), has_aux=True))(
          params, visual, arrays['text_hidden_src'],
          arrays['text_hidden_tgt'], arrays)
  return branch, arrays, outputs, gradients


class Weights(dict):
  """A config section: fields by name or by key."""
  __getattr__ = dict.__getitem__


def test_leccr_terms_and_total(run):
  _, arrays, (total, (named, mean)), _ = run
  wanted = reference.sub(arrays, 'forward/')
  assert {f'term_{name}' for name in named} == {
      name for name in wanted if name.startswith('term_')}
  for name, value in named.items():
    check(value, wanted[f'term_{name}'], ATOL, name)
  check(total, wanted['total'], ATOL)
  for name, ours in (('reg', 'regularization'), ('cv', 'description'),
                     ('dstl', 'softened')):
    check(mean[ours], arrays[f'{name}/value'], ATOL, name)


def test_leccr_gradients_of_the_inputs(run):
  branch, arrays, _, gradients = run
  visual = 'image_tokens' if branch == 'image' else 'frames'
  for name, got in zip((visual, 'text_src', 'text_tgt'), gradients[1:]):
    check(got, arrays[f'forward/grad_{name}'], GRADIENT_ATOL, name)


def test_leccr_gradients_of_every_parameter(leccr_golden, run):
  branch, _, _, gradients = run
  wanted = reference.load(
      load_file(leccr_golden / f'{branch}_model_grads.safetensors'),
      reference.table_of(branch))
  got, wanted = flatten(gradients[0]), flatten({'params': wanted})
  assert got.keys() == wanted.keys()
  for path, gradient in wanted.items():
    check(got[path], gradient, GRADIENT_ATOL, path)


@pytest.mark.slow
def test_leccr_zero_queries_send_the_gradient_to_the_first_slot(
    leccr_golden, arrays):
  """All slots tie: `jnp.max` would split what PyTorch gives to the first."""
  module, params, weights = reference.model(leccr_golden, 'image')
  params = {'params': {**params['params'], 'queries': np.zeros_like(
      params['params']['queries'])}}
  loss = forward(module, Weights(weights), arrays['idx'], None)
  (total, _), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
      params, arrays['image_tokens'], arrays['text_hidden_src'],
      arrays['text_hidden_tgt'], arrays)
  wanted = reference.sub(arrays, 'zero_queries_forward/')
  check(total, wanted['total'], ATOL)
  got = gradients['params']['queries']
  check(got, wanted['grad_queries'][:, 0], GRADIENT_ATOL)
  # A single slot has none to share its gradient with.
  assert len(got) == 1 or np.abs(got[0] - got[1:]).max() > 0


def test_leccr_unused_regularization(leccr_golden):
  """The authors' second form is defined and never called; so is it here."""
  arrays = reference.read(leccr_golden, 'video_model.npz')
  units = losses.unit(batch_first(arrays['interaction/slots_raw']))
  cosines = np.einsum('BiV,BjV->Bij', units, units)
  logs = np.diagonal(jax.nn.log_softmax(cosines, -1), axis1=1, axis2=2)
  check(-logs.mean(), arrays['reg/unused_softmax_variant'], ATOL)
