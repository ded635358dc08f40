"""BLiM's optimizer updates: rates, losses and the parameters that come out."""
import math
import types

import jax
import ml_collections
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret import optim, sharding, train
from jaxret.methods import base
from jaxret.methods.blim import method as blim
from tests.parity import blim_reference as reference

ATOL = 2e-5  # largest difference seen: losses 1.4e-6, parameters 3e-7
TRAINABLE = ('lora/.*', 'params/visual_head/.*')


@pytest.fixture(scope='module')
def recipe(blim_golden):
  """The golden optimizer settings, and the counts of the run."""
  given = reference.settings(blim_golden)['optimizer']
  assert given['name'] == 'AdamW'
  config = ml_collections.ConfigDict({
      'learning_rate': given['lr'], 'betas': tuple(given['betas']),
      'eps': given['eps'], 'weight_decay': given['weight_decay(ndim>1)'],
      'warmup_epochs': given['warmup_epochs'],
      'min_learning_rate': given['min_lr'], 'gradient_clip_norm': 0.0})
  steps_per_epoch = given['iters_per_epoch'] // given['accum_iter']
  return types.SimpleNamespace(
      config=config, accumulation=given['accum_iter'],
      n_steps=given['epochs_run'] * steps_per_epoch,
      steps_per_epoch=steps_per_epoch,
      learning_rate=optim.schedule(
          config, given['epochs_for_schedule'], steps_per_epoch))


@pytest.fixture(scope='module')
def golden(blim_golden):
  return reference.read(blim_golden, 'train_steps.npz')


def micro_batches(folder, golden):
  """(visual prefix, the batches of one epoch, padded to one width)."""
  parts = []
  while f'b{len(parts)}_vtg_ids' in golden:
    start = f'b{len(parts)}_'
    parts.append({name.removeprefix(start): array for name, array
                  in golden.items() if name.startswith(start)})
  read = [reference.batch(folder, part)[1] for part in parts]
  sizes = [max(batch[name].shape[1] for batch in read)
           for name in ('labels', 'text_prefix')]
  read = [reference.batch(folder, part, sizes) for part in parts]
  return read[0][0], [batch for _, batch in read]


def joined(batches):
  """One batch whose rows m, m + A, ... are micro-batch m of the A."""
  return {name: np.stack([batch[name] for batch in batches], 1).reshape(
      -1, *batches[0][name].shape[1:]) for name in batches[0]}


def run_updates(folder, golden, recipe, mesh):
  """(metrics of each update, trained parameters by path)."""
  model = reference.lora_model(folder)
  method = base.Method(
      name='blim', init=None, load=None, trainable=TRAINABLE, examples=None,
      loss=lambda params, constants, batch, key: blim.loss(
          model.vlm, params, constants, batch, key),
      train_flops=None, tokens=None)
  trainable, frozen = train.split_params(method, model.params, mesh)
  optimizer = optim.make_optimizer(recipe.config, recipe.learning_rate)
  state = train.init_state(optimizer, trainable, mesh)
  update = train.make_update(method, optimizer, mesh, 0, recipe.accumulation)
  prefix, batches = micro_batches(folder, golden)
  vocabulary = reference.read(folder, 'train_batch.npz')['video_vocab']
  constants = {'visual_prefix': sharding.constant(mesh, prefix),
               'video_vocabulary': sharding.constant(mesh, vocabulary)}
  seen = []
  for step in range(recipe.n_steps):
    first = step % recipe.steps_per_epoch * recipe.accumulation
    batch = joined(batches[first:first + recipe.accumulation])
    state, metrics = update(
        state, frozen, constants, sharding.global_batch(mesh, batch))
    seen.append(sharding.to_host(metrics))
  return seen, sharding.flatten(sharding.to_host(state.trainable))


def test_blim_learning_rates(golden, recipe):
  rates = [float(recipe.learning_rate(step)) for step in range(recipe.n_steps)]
  np.testing.assert_allclose(
      np.repeat(rates, recipe.accumulation), golden['lr'], rtol=1e-5)


@pytest.mark.parametrize('most_devices', [
    1, pytest.param(8, marks=pytest.mark.slow)])
def test_blim_optimizer_updates(blim_golden, golden, recipe, most_devices):
  """Losses before each update, and all trained parameters after the last."""
  rows = len(golden['b0_vtg_ids'])
  mesh = sharding.make_mesh(
      devices=jax.devices()[:math.gcd(rows, most_devices)])
  seen, trained = run_updates(blim_golden, golden, recipe, mesh)
  for name in ('vtg_loss', 'tvg_loss'):
    of_updates = golden[name].reshape(-1, recipe.accumulation).mean(1)
    np.testing.assert_allclose(
        [metrics[name] for metrics in seen], of_updates, atol=ATOL)
  # Logged there over accum_iter: the sum over an update is its mean loss.
  np.testing.assert_allclose(
      [metrics['loss'] for metrics in seen],
      golden['loss_over_accum'].reshape(-1, recipe.accumulation).sum(1),
      atol=ATOL)

  start = sharding.flatten(reference.lora_model(blim_golden).params)
  wanted = load_file(blim_golden / 'trained_params.safetensors')
  checked, moved = {}, []
  for key, path, layer, want in reference.locate(wanted, 'lora/'):
    np.testing.assert_allclose(
        trained[path][layer], want, atol=ATOL, err_msg=key)
    moved.append(np.abs(start[path][layer] - want).max() > ATOL)
    checked[path] = checked.get(path, 0) + want.size
  assert checked == {path: leaf.size for path, leaf in trained.items()}
  # Untrained, most would not pass; nothing trains the projector of clips where
  # videos have a single one, which no clip reads.
  assert np.mean(moved) > 0.5
