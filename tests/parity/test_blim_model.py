"""BLiM's sequences, hidden states, logits, losses and gradients."""
import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret import losses, optim, sharding
from jaxret.methods.blim import method as blim
from jaxret.scoring.likelihood import tries
from tests.parity import blim_reference as reference

# Absolute, float32; the golden data vouch for 2e-4. Largest differences seen:
# embeddings 4e-6, logits and hidden states 1.4e-5, scores 3e-6, losses 1e-6.
ATOL = 1e-4
SCORE_ATOL = 2e-5
MODELS = {'merged': reference.merged_model, 'lora': reference.lora_model}


@pytest.fixture(scope='module', params=MODELS)
def model(request, blim_golden):
  """The model with folded LoRA, and the same with LoRA beside the base."""
  return MODELS[request.param](blim_golden)


@pytest.fixture(scope='module')
def diagnostics(blim_golden):
  return reference.read(blim_golden, 'diag.npz')


@pytest.fixture(scope='module')
def inputs(blim_golden):
  return reference.read(blim_golden, 'test_inputs.npz')


@functools.cache
def compiled(vlm, method):
  return jax.jit(functools.partial(vlm.module().apply, method=method))


def apply(model, method, *args):
  return compiled(model.vlm, method)(model.params, *args)


def sequences(blim_golden, inputs, kind):
  """Token ids of every test item as the model gets them, right-padded."""
  clips, tokens = inputs['video_features'].shape[1:3]
  n_visual = clips * tokens if kind == 'vtg' else clips
  rows = [reference.expand(inputs[f'{kind}_ids_{i}'], n_visual)
          for i in range(len(inputs['vtg_ids']))]
  return tries.stack(rows, max(map(len, rows)))


def hidden_states(model, diagnostics, kind, keys):
  """[B, T, D] under the key mask of a likelihood ('attn') or prior ('cpn')."""
  lengths = diagnostics[f'{kind}_attn_mask'].sum(1)
  return apply(model, 'hidden', diagnostics[f'{kind}_embeds'], lengths,
               diagnostics[f'{kind}_{keys}_mask'].astype(bool))


@pytest.mark.parametrize('kind, method', [
    ('vtg', 'visual_tokens'), ('tvg', 'clip_tokens')])
def test_blim_input_embeddings(
    blim_golden, inputs, diagnostics, model, kind, method):
  visual = apply(model, method, inputs['video_features'])
  tokens = sequences(blim_golden, inputs, kind)
  got = np.asarray(apply(model, 'embed', tokens, visual))
  real = diagnostics[f'{kind}_attn_mask'].astype(bool)
  np.testing.assert_allclose(
      got[real], diagnostics[f'{kind}_embeds'][real], atol=ATOL)


@pytest.mark.parametrize('keys, prefix, score', [
    ('attn', '', 'score'), ('cpn', 'cpn_', 'prior')])
def test_blim_vtg_logits_and_scores(
    blim_golden, diagnostics, model, keys, prefix, score):
  terms = apply(model, 'vocabulary_terms',
                hidden_states(model, diagnostics, 'vtg', keys))
  logits = sum(np.asarray(left) @ np.asarray(right) for left, right in terms)
  real = diagnostics['vtg_attn_mask'].astype(bool)
  np.testing.assert_allclose(
      logits[real], diagnostics[f'vtg_{prefix}logits'][real], atol=ATOL)

  labels = diagnostics['vtg_labels'][:, 1:]
  scored = labels != reference.settings(blim_golden)['ignore_index']
  value = losses.token_log_likelihood(
      [(left[:, :-1], right) for left, right in terms], np.maximum(labels, 0))
  np.testing.assert_allclose(
      np.where(scored, value, 0).sum(1) / scored.sum(1),
      diagnostics[f'vtg_{score}'], atol=SCORE_ATOL)


@pytest.mark.parametrize('keys, prefix, score', [
    ('attn', '', 'score'), ('cpn', 'cpn_', 'prior')])
def test_blim_tvg_hidden_states_logits_and_scores(
    inputs, diagnostics, model, keys, prefix, score):
  hidden = np.asarray(hidden_states(model, diagnostics, 'tvg', keys))
  real = diagnostics['tvg_attn_mask'].astype(bool)
  np.testing.assert_allclose(
      hidden[real], diagnostics[f'tvg_{prefix}hidden'][real], atol=ATOL)

  rows = np.take_along_axis(
      hidden, diagnostics['tvg_query_index'][..., None], 1)
  queries = apply(model, 'clip_queries', rows)
  vocabulary = inputs['video_vocab']
  logits = np.einsum('BKD,NKD->BKN', queries, vocabulary)
  np.testing.assert_allclose(
      logits / np.sqrt(vocabulary.shape[-1]),
      diagnostics[f'tvg_{prefix}logits'], atol=ATOL)
  value = losses.clip_log_likelihood(
      queries, vocabulary, inputs['vocab_index'])
  np.testing.assert_allclose(
      value.mean(1), diagnostics[f'tvg_{score}'], atol=SCORE_ATOL)


def test_blim_video_vocabulary_is_the_token_mean(inputs):
  features = inputs['video_features']
  np.testing.assert_allclose(
      blim.video_vocabulary(features),
      inputs['video_vocab'][inputs['vocab_index']], atol=1e-6)


def loss_and_gradients(folder, model, mesh, trainable):
  """(metrics, gradients of the mean loss) on the golden training batch."""
  arrays = reference.read(folder, 'train_batch.npz')
  prefix, batch = reference.batch(folder, arrays)
  constants = {'visual_prefix': sharding.constant(mesh, prefix),
               'video_vocabulary': sharding.constant(
                   mesh, arrays['video_vocab'])}
  params = jax.device_put(
      model.params, sharding.shardings(mesh, model.params))
  trainable, frozen = optim.partition(params, trainable)

  def mean_loss(trainable, frozen, constants, batch):
    values, metrics = blim.loss(
        model.vlm, optim.merge(trainable, frozen), constants, batch, None)
    return values.mean(), metrics

  (value, metrics), gradients = jax.jit(
      jax.value_and_grad(mean_loss, has_aux=True))(
          trainable, frozen, constants, sharding.global_batch(mesh, batch))
  np.testing.assert_allclose(
      value, metrics['vtg_loss'] + metrics['tvg_loss'], rtol=1e-5)
  return metrics, sharding.flatten(gradients)


def check_gradients(gradients, golden, root):
  """Each tensor to 1e-3 of its largest element.

  Of a single clip per video none is read: zero, where theirs is.
  """
  for key, path, layer, want in reference.locate(golden, root):
    got = np.asarray(gradients[path])[layer]
    deviation, largest = np.abs(got - want).max(), np.abs(want).max()
    assert deviation <= 1e-3 * largest, (key, deviation, largest)


@pytest.mark.parametrize('section, root, trainable, mesh_shape', [
    ('merged', 'params/', ('params/.*',), {}),
    pytest.param(
        'lora', 'lora/', ('lora/.*', 'params/visual_head/.*'),
        {'data': 2, 'fsdp': 2, 'tensor': 2}, marks=pytest.mark.slow)])
def test_blim_losses_and_gradients(
    blim_golden, section, root, trainable, mesh_shape):
  """Of one device, and of a mesh that splits batch and weights."""
  devices = jax.devices()[:int(np.prod(list(mesh_shape.values())))]
  mesh = sharding.make_mesh(mesh_shape, devices)
  arrays = reference.read(blim_golden, 'train_batch.npz')
  if len(arrays['vtg_ids']) % sharding.batch_shards(mesh):
    mesh = sharding.make_mesh({'tensor': -1}, devices)
  metrics, gradients = loss_and_gradients(
      blim_golden, MODELS[section](blim_golden), mesh, trainable)
  for name in ('vtg_loss', 'tvg_loss'):
    np.testing.assert_allclose(
        metrics[name], arrays[name], atol=SCORE_ATOL)
  golden = {key.removeprefix(f'{section}/'): tensor for key, tensor in
            load_file(blim_golden / 'grads.safetensors').items()
            if key.startswith(f'{section}/')}
  assert golden
  check_gradients(gradients, golden, root)
