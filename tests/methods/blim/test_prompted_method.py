"""Training of a model that continues prompts: what is trained is scored."""
import functools

import jax
import numpy as np
import pytest

from jaxret import optim, sharding
from jaxret import train as train_lib
from jaxret.interruption import Interruption
from jaxret.methods.blim import prompted, prompted_method
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_prompted as tiny
from tests import tiny_prompted_training as training

OPTIONS = likelihood.Options(4, 8, 9.0, nonzero_denominator=False)
ROWS = range(6)


@functools.cache
def scores(name, directory):
  ready = training.ready(name)
  return prompted.inputs(ready.model(), ready.split, features=ready.features
                         ).score(OPTIONS, directory)


@pytest.mark.slow
@pytest.mark.parametrize('name', training.BACKBONES)
def test_loss_is_the_score_of_the_pairs_that_belong_together(
    name, tmp_path_factory):
  """-log P(text | item) a token, and -log P(item | text) a clip.

  Of captions that do not see their item it is -log P(text).
  """
  ready, batch = training.ready(name), training.ready(name).batch(ROWS)
  found = scores(name, tmp_path_factory.mktemp(name))
  lengths, video = batch['label_length'], ready.split.text_video
  def run(share, key):
    return jax.jit(functools.partial(
        prompted_method.loss, ready.found.sizes, text_prior_share=share))(
            ready.params, ready.examples.constants, batch, key)
  texts = -found.text_given_video[video, ROWS]
  clips = -found.video_given_text[ROWS, video]
  assert clips.std() > 1e-3 < texts.std()
  loss, parts = run(0.0, None)
  np.testing.assert_allclose(
      parts['vtg_loss'], (texts * lengths).sum() / lengths.sum(), atol=5e-5)
  np.testing.assert_allclose(parts['tvg_loss'], clips.mean(), atol=5e-5)
  np.testing.assert_allclose(
      loss, texts * lengths / lengths.mean() + clips, atol=1e-4)
  alone = -np.asarray(found.text_prior[:])[video, ROWS]
  assert np.abs(alone - texts).max() > 1e-2
  _, parts = run(1 - 1e-7, jax.random.key(0))
  np.testing.assert_allclose(
      parts['vtg_loss'], (alone * lengths).sum() / lengths.sum(), atol=5e-5)


def gradients(ready, mesh):
  """(loss [B], gradients of what is trained) on a mesh."""
  trainable, frozen = train_lib.split_params(
      ready.method, ready.params, mesh)
  batch = sharding.global_batch(mesh, ready.batch([*ROWS, 0, 3]))
  constants = {name: sharding.constant(mesh, array)
               for name, array in ready.examples.constants.items()}
  @jax.jit
  def run(trainable, frozen, constants, batch):
    def total(trainable):
      value, _ = ready.method.loss(
          optim.merge(trainable, frozen), constants, batch, None)
      return value.mean(), value
    return jax.grad(total, has_aux=True)(trainable)
  with jax.set_mesh(mesh):
    found, value = run(trainable, frozen, constants, batch)
  return sharding.to_host(value), sharding.flatten(sharding.to_host(found))


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    pytest.param('qwen3_vl', marks=pytest.mark.campaign), 'qwen25_vl'])
def test_eight_devices_give_the_same_losses_and_gradients(name):
  """And the head and every factor get some."""
  assert jax.device_count() == 8
  ready = training.ready(name)
  value, found = gradients(ready, tiny.one_device())
  many, others = gradients(ready, sharding.make_mesh({'data': 4, 'fsdp': 2}))
  np.testing.assert_allclose(many, value, rtol=2e-5)
  assert found.keys() == others.keys()
  assert {path.split('/')[1] for path in found} == {'decoder', 'visual_head'}
  for path, leaf in found.items():
    assert np.abs(leaf).max() > 1e-6, path
    np.testing.assert_allclose(
        others[path], leaf, atol=1e-4 * np.abs(leaf).max(), err_msg=path)


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_bit_for_bit(monkeypatch, tmp_path):
  """And its losses fall."""
  ready = training.ready('qwen3_vl')
  config = training.config_of('qwen3_vl', **{
      'train.batch_size': 6, 'train.epochs': 8.0, 'train.log_every_steps': 1,
      'optim.learning_rate': 1e-2, 'optim.weight_decay': 0.0})
  def fit(name):
    return sharding.to_host(train_lib.fit(
        ready.method, ready.examples, config, tmp_path / name,
        tiny.one_device(), jax.tree.map(jax.numpy.asarray, ready.params)))
  whole = fit('whole')
  with monkeypatch.context() as patch:
    patch.setattr(Interruption, 'requested', lambda self, step: step == 3)
    with pytest.raises(KeyboardInterrupt, match='stopped at step 3 of 8'):
      fit('parts')
  again = fit('parts')
  jax.tree.map(np.testing.assert_array_equal, again, whole)
  jax.tree.map(np.testing.assert_array_equal, whole['params']['vision'],
               ready.params['params']['vision'])
  before, after = (
      jax.jit(ready.method.loss)(params, ready.examples.constants,
                                 ready.batch(ROWS), None)[1]
      for params in (ready.params, whole))
  for part, by in (('vtg_loss', 0.2), ('tvg_loss', 0.01)):
    assert after[part] < before[part] - by


@pytest.mark.parametrize('fields, said', [
    ({'model.trainable': ('lora/.*',)}, 'leaves out params/visual_head'),
    ({'model.trainable': ('.*',)}, 'train params/vision/.*, of the tower'),
    ({'model.lora.targets': ('vision/blocks/attention/qkv',)},
     'train lora/vision/.*, of the tower'),
    ({'model.backbone': 'qwen2_vl'}, "set model.backbone='qwen3_vl'"),
    ({'data.alpha': 'released'}, 'data.alpha has no effect on a qwen3_vl'),
])
def test_what_cannot_be_trained_is_one_line(fields, said):
  config = training.config_of('qwen3_vl', **fields)
  with pytest.raises(ValueError, match=said) as error:
    prompted_method.method(config, prompted_method.backbone(config))
  assert '\n' not in str(error.value)


def test_examples_are_of_one_shape_and_count_what_is_read():
  ready = training.ready('qwen3_vl')
  batch = ready.batch(ROWS)
  shapes = {name: {ready.examples[i][name].shape for i in ROWS}
            for name in batch}
  assert all(len(found) == 1 for found in shapes.values())
  labels = np.arange(batch['labels'].shape[1])
  tokens = batch['tokens'][np.arange(6)[:, None], np.minimum(
      batch['start'][:, None] + 1 + labels, batch['tokens'].shape[1] - 1)]
  inner = labels < batch['label_length'][:, None] - 1
  np.testing.assert_array_equal(tokens[inner], batch['labels'][inner])
  assert ready.method.tokens(batch) == (
      batch['length'].sum() + batch['text_prefix_length'].sum()
      + 6 * (training.CLIPS - 1))
  assert ready.method.train_flops(batch) > 0
