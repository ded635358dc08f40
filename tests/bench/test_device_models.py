"""The device bench's models: what they compute is what runs compute."""
import functools

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import device, device_models, presets
from jaxret.methods.blim import method as blim
from jaxret.models.llava import model as llava_next

TINY = presets.PRESETS['tiny'].vlm


def options(*flags):
  return device.parse(['--preset=tiny', '--repeats=2', *flags])


@pytest.mark.slow
def test_a_batch_of_random_examples_has_a_loss(one_device):
  """Each example's own lengths count, and its own video is the right one."""
  batch, constants = device_models.lora_batch(TINY, 3)
  params = blim.init(TINY, device_models.LORA_TARGETS, 2, jax.random.key(0))
  losses, _ = jax.jit(lambda *args: blim.loss(TINY, *args, None))(
      params, constants, batch)
  assert losses.shape == (3,) and np.isfinite(losses).all()
  uniform = np.log(TINY.decoder.vocab_size) + np.log(3)
  assert abs(float(losses.mean()) - uniform) < 2.0
  assert len(set(batch['label_length'])) > 1
  assert batch['labels'].shape[1] == batch['label_length'].max()


@pytest.mark.slow
def test_a_group_of_candidates_has_probabilities(one_device):
  config = device_models.RERANKERS['tiny']
  batch = device_models.rerank_batch(config)
  params = llava_next.init(config, jax.random.key(0))
  p = jax.jit(functools.partial(llava_next.p_true_of_suffixes, config))(
      params, batch, np.array([1, 2]))
  assert p.shape == (1, device_models.CANDIDATES)
  assert (np.asarray(p) > 0).all() and (np.asarray(p) < 1).all()
  assert np.ptp(np.asarray(p)) > 1e-6  # each has an image of its own


@pytest.mark.slow
@pytest.mark.parametrize('part, rows', [
    (device_models.embedding, 1), pytest.param(
        device_models.lora_step, 3, marks=pytest.mark.campaign),
    (device_models.reranking, 1)])
def test_parts_tell_rates_and_work(part, rows, one_device):
  found = part(options(), sharding.make_mesh())
  assert len(found) == rows
  for row in found:
    assert row['seconds'] > 0 and row['flops'] > 0 and row['count'] > 0
    assert len(row['all_seconds']) == 2 and row['first_seconds'] > 0


@pytest.mark.slow
def test_a_hundred_candidates_are_all_scored(one_device):
  row, = device_models.best_again(options(), sharding.make_mesh())
  assert row['count'] == 100 and row['seconds'] < row['first_seconds']
  assert not row['flops']
