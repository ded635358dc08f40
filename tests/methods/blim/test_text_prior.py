"""A share of the captions trains P(text), exactly as P(text) is scored."""
import functools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from configs import blim as blim_config
from jaxret import sharding, train
from jaxret.methods import base
from jaxret.methods.blim import method as blim
from jaxret.methods.blim import text_prior
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_likelihood as tiny

ATOL = 1e-5
PROMPTS = tiny.make_prompts()
FEATURES = tiny.make_features()
CONSTANTS = {'visual_prefix': PROMPTS.visual_prefix,
             'video_vocabulary': FEATURES.mean(2)}
TEXTS, VIDEOS = [0, 1, 3, 5, 6], [4, 0, 2, 2, 1]


def padded(rows):
  return np.stack([np.pad(row, (0, max(map(len, rows)) - len(row)))
                   for row in rows])


def make_batch(texts, videos):
  """What BlimExamples gives of pairs (text, video), stacked."""
  labels = [PROMPTS.labels[t] for t in texts]
  prefixes = [PROMPTS.text_prefixes[t] for t in texts]
  return {'features': FEATURES[videos],
          'video_index': np.array(videos, np.int32),
          'labels': padded(labels), 'text_prefix': padded(prefixes),
          'label_length': np.array([len(x) for x in labels], np.int32),
          'text_prefix_length': np.array([len(x) for x in prefixes], np.int32)}


def loss_of(share):
  return functools.partial(blim.loss, tiny.CONFIG, text_prior_share=share)


@pytest.mark.slow
def test_captions_that_are_read_alone_train_the_text_prior():
  """-log P(text) a token, of each caption; the videos' losses are as ever."""
  mesh, params = tiny.one_device(), tiny.make_params()
  batch = make_batch(TEXTS, VIDEOS)
  alone, parts = jax.jit(loss_of(1.0))(
      params, CONSTANTS, batch, jax.random.key(0))
  prior, _ = likelihood.text_priors(
      tiny.MODEL, params, mesh, PROMPTS,
      likelihood.Options(8, 8, 10.0, nonzero_denominator=False))
  lengths = batch['label_length']
  wanted = -prior[TEXTS] * lengths / lengths.mean()
  np.testing.assert_allclose(parts['vtg_loss'], wanted.mean(), atol=ATOL)
  # What is left of each example's loss is that of its video.
  by_hand = [-tiny.clip_values(params, PROMPTS, FEATURES, v, t, False).mean()
             for t, v in zip(TEXTS, VIDEOS)]
  np.testing.assert_allclose(alone, wanted + by_hand, atol=ATOL)


@pytest.mark.slow
def test_captions_that_are_drawn_are_read_alone_and_no_others():
  params, key = tiny.make_params(), jax.random.key(3)
  batch = make_batch(TEXTS * 4, VIDEOS * 4)
  def losses(share, key=key):
    return np.asarray(
        jax.jit(loss_of(share))(params, CONSTANTS, batch, key)[0])
  drawn = ~np.asarray(
      text_prior.keys(0.5, key, np.ones((20, 1), bool)))[:, 0]
  assert 3 <= drawn.sum() <= 17
  plain, alone = losses(0.0), losses(1.0)
  assert np.abs(alone - plain).min() > 100 * ATOL
  np.testing.assert_allclose(
      losses(0.5), np.where(drawn, alone, plain), atol=ATOL)
  np.testing.assert_array_equal(losses(0.5, None), plain)


def test_without_a_share_nothing_is_drawn():
  """The operations and the keys of before."""
  batch = make_batch([0, 1], [4, 0])
  params = jax.eval_shape(functools.partial(
      blim.init, tiny.CONFIG, (), 0), jax.random.key(0))
  def program(loss):
    return str(jax.make_jaxpr(loss)(
        params, CONSTANTS, batch, jax.random.key(0)))
  before = program(functools.partial(blim.loss, tiny.CONFIG))
  assert 'random_bits' not in before
  old = text_prior.share(ConfigDict({'batch_size': 8}))
  assert program(loss_of(old)) == before
  assert program(loss_of(0.5)).count('random_bits') == 1


def test_drawn_rows_are_the_share_and_follow_the_key():
  is_visual = np.arange(12)[None] < np.full((4000, 1), 5)
  def drawn(seed=0, step=0):
    key = jax.random.fold_in(jax.random.key(seed), step)
    keys = np.asarray(text_prior.keys(0.25, key, is_visual))
    assert keys[:, 5:].all()
    assert (keys[:, :5] == keys[:, :1]).all()
    return ~keys[:, 0]
  first = drawn()
  assert abs(first.mean() - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
  np.testing.assert_array_equal(drawn(), first)
  for other in (drawn(seed=1), drawn(step=1)):
    assert 0.3 < (other != first).mean() < 0.45  # 2 * share * (1 - share)
  assert text_prior.keys(0.25, None, is_visual) is None
  assert text_prior.keys(0.0, jax.random.key(0), is_visual) is None


def test_eight_devices_draw_the_rows_that_one_draws():
  mesh = sharding.make_mesh()
  is_visual, key = np.ones((64, 3), bool), jax.random.key(7)
  run = jax.jit(functools.partial(text_prior.keys, 0.25))
  dealt = jax.device_put(is_visual, NamedSharding(mesh, P(('data', 'fsdp'))))
  assert len(dealt.sharding.device_set) == 8
  found = np.asarray(run(key, dealt))
  np.testing.assert_array_equal(found, run(key, is_visual))
  assert 0 < (~found).sum() < found.size


@pytest.mark.slow
def test_eight_devices_train_as_one_does():
  """Two updates of two micro-batches each, half of the captions alone."""
  method = base.Method(
      name='blim', init=None, load=None, trainable=('.*',), examples=None,
      loss=loss_of(0.5), train_flops=None, tokens=None)
  batch = make_batch([0, 1, 2, 3] * 4, [4, 0, 2, 1] * 4)
  optimizer = train.optim.make_optimizer(
      blim_config.get_config().optim, lambda step: 1e-3)
  def updates(mesh):
    trainable, frozen = train.split_params(
        method, jax.tree.map(np.asarray, tiny.make_params()), mesh)
    state = train.init_state(optimizer, trainable, mesh)
    update = train.make_update(method, optimizer, mesh, 0, 2)
    constants = {name: sharding.constant(mesh, array)
                 for name, array in CONSTANTS.items()}
    seen = []
    for _ in range(2):
      state, metrics = update(
          state, frozen, constants, sharding.global_batch(mesh, batch))
      seen.append(float(metrics['vtg_loss']))
    return seen, sharding.flatten(sharding.to_host(state.trainable))
  losses, one = updates(tiny.one_device())
  on_eight, eight = updates(sharding.make_mesh())
  np.testing.assert_allclose(on_eight, losses, rtol=1e-5)
  for path, want in one.items():
    np.testing.assert_allclose(eight[path], want, atol=ATOL, err_msg=path)


@pytest.mark.parametrize('variant', blim_config.VARIANTS)
def test_real_models_bring_their_own_prior(variant):
  config = blim_config.get_config(variant)
  share = text_prior.share(config.train)
  assert share == 0 if config.model.pretrained else 0 < share < 1


@pytest.mark.parametrize('share', [-0.1, 1.0, float('nan')])
def test_what_is_no_share_is_refused(share):
  with pytest.raises(ValueError, match=f'train.text_prior_share is {share}'):
    text_prior.share(ConfigDict({'text_prior_share': share}))
