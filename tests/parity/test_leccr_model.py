"""LECCR's attention blocks, slots, features and gradients."""
import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret.models import attention as attention_lib
from jaxret.models import encoder, leccr
from jaxret.sharding import flatten
from tests.parity import leccr_reference as reference
from tests.parity.leccr_reference import (
    ATOL,
    GRADIENT_ATOL,
    apply,
    batch_first,
    check,
)

BRANCHES = ('image', 'video')


@pytest.fixture(scope='module')
def attention(leccr_golden):
  return reference.read(leccr_golden, 'attention.npz')


def attention_stack(folder, kind, width):
  """(Stack, parameters) of one of the two golden stacks."""
  tensors = load_file(folder / 'attention_params.safetensors')
  params = reference.load(reference.sub(tensors, f'{kind}.'),
                          reference.stack('', ''))
  n_layers = len(params['layers']['mlp_norm']['scale'])
  config = encoder.EncoderConfig(
      width, width, n_layers, reference.misc(folder)[
          'attention_heads_in_models'])
  assert config.heads == leccr.HEADS
  return leccr.Stack(config), {'params': params}


def test_leccr_cross_attention(leccr_golden, attention):
  arrays = reference.sub(attention, 'cross/')
  x, memory = batch_first(arrays['tgt']), batch_first(arrays['memory'])
  module, params = attention_stack(leccr_golden, 'cross', x.shape[-1])
  mask = arrays['valid_mask']
  check(batch_first(apply(module, None, params, x, memory, mask)),
        arrays['out'], ATOL)
  check(batch_first(apply(module, None, params, x, memory)),
        arrays['out_nomask'], ATOL)
  def weighted(x, memory):
    return (module.apply(params, x, memory, mask)
            * batch_first(arrays['cotangent'])).sum()
  gradients = jax.jit(jax.grad(weighted, (0, 1)))(x, memory)
  for name, got in zip(('tgt', 'memory'), gradients):
    check(batch_first(got), arrays[f'grad_{name}'], GRADIENT_ATOL, name)


def test_leccr_attention_weights_of_the_last_layer(leccr_golden, attention):
  """Read off through values that are the columns of the identity."""
  arrays = reference.sub(attention, 'cross/')
  x, memory = batch_first(arrays['tgt']), batch_first(arrays['memory'])
  mask = arrays['valid_mask']
  module, params = attention_stack(leccr_golden, 'cross', x.shape[-1])
  stacked, n_layers = params['params']['layers'], module.config.layers
  if n_layers > 1:
    before = leccr.Stack(dataclasses.replace(
        module.config, layers=n_layers - 1))
    some = {'params': {'layers': jax.tree.map(lambda a: a[:-1], stacked)}}
    x = apply(before, None, some, x, memory, mask)
  last = jax.tree.map(lambda a: a[-1], stacked['attention'])
  def heads(name, source):
    y = source @ last[name]['kernel'] + last[name]['bias']
    return y.reshape(*y.shape[:2], module.config.heads, -1)
  query, key = heads('q', x), heads('k', memory)
  n_keys, width = key.shape[1], key.shape[-1]
  columns = np.pad(np.eye(n_keys, dtype=np.float32),
                   ((0, 0), (0, -n_keys % width)))
  parts = []
  for first in range(0, n_keys, width):
    value = np.broadcast_to(
        columns[:, None, first:first + width], key.shape)
    parts.append(attention_lib.attention(query, key, value, mask[:, None])[0])
  weights = np.concatenate(parts, -1)[..., :n_keys].mean(2)
  check(weights, arrays['attn_last_layer_head_mean'], ATOL)


def test_leccr_self_attention(leccr_golden, attention):
  arrays = reference.sub(attention, 'self/')
  x, mask = batch_first(arrays['src']), arrays['valid_mask']
  module, params = attention_stack(leccr_golden, 'self', x.shape[-1])
  check(batch_first(apply(module, None, params, x, None, mask)),
        arrays['out'], ATOL)
  check(batch_first(apply(module, None, params, x)), arrays['out_nomask'],
        ATOL)
  def weighted(x):
    return (module.apply(params, x, None, mask)
            * batch_first(arrays['cotangent'])).sum()
  check(batch_first(jax.jit(jax.grad(weighted))(x)), arrays['grad_src'],
        GRADIENT_ATOL)


@pytest.mark.parametrize('branch', BRANCHES)
def test_leccr_names_cover_the_authors_model(leccr_golden, branch):
  """Every tensor of theirs is one of ours, or one that never gets a gradient.

  Ours has none beside its two encoders that theirs lacks.
  """
  module, params, _ = reference.model(leccr_golden, branch)
  config = module.config
  px = config.vision.image_px if branch == 'image' else None
  visual = (np.zeros((1, px, px, 3), np.uint8) if px else
            np.zeros((1, 2, config.visual_width), np.float32))
  mask = None if px else np.ones((1, 2), bool)
  tokens = np.zeros((1, 1), np.int32)
  abstract = jax.eval_shape(
      module.init, jax.random.key(0), visual, mask, np.zeros((2, 1), np.int32),
      np.ones((2, 1), bool), tokens, np.ones((1, 1), bool))
  ours = {path: leaf.shape for path, leaf in flatten(abstract).items()
          if path.split('/')[1] not in ('text_encoder', 'vision',
                                        'vision_head')}
  assert ours == {
      path: leaf.shape for path, leaf in flatten(params).items()}
  never = reference.misc(leccr_golden)['no_grad_params_after_forward']
  tensors = load_file(
      leccr_golden / f'{branch}_model_params.safetensors')
  gradients = load_file(
      leccr_golden / f'{branch}_model_grads.safetensors')
  assert set(tensors) - set(gradients) == (
      set(never[f'{branch}_model']) & set(tensors))


def frames(module, params, arrays):
  return apply(module, 'visual_tokens', params, arrays['frames'],
               arrays['frame_mask'])


def visual_inputs(module, params, branch, arrays):
  if branch == 'image':
    return arrays['image_tokens'], None
  return frames(module, params, arrays), arrays['frame_mask']


def test_leccr_frame_encoder(leccr_golden):
  arrays = reference.read(leccr_golden, 'video_model.npz')
  module, params, _ = reference.model(leccr_golden, 'video')
  check(frames(module, params, arrays), arrays['vid_encoder_out'], ATOL)


@pytest.mark.parametrize('branch', BRANCHES)
def test_leccr_interaction(leccr_golden, branch):
  arrays = reference.read(leccr_golden, f'{branch}_model.npz')
  module, params, _ = reference.model(leccr_golden, branch)
  visual, mask = visual_inputs(module, params, branch, arrays)
  found = apply(module, 'interact', params, visual, mask,
                arrays['caption_hidden'], reference.masks(arrays))
  check(batch_first(found.raw_slots), arrays['interaction/slots_raw'], ATOL)
  check(batch_first(found.slots), arrays['interaction/slots_out'], ATOL)
  check(batch_first(found.visual), arrays[f'interaction/{branch}_out'], ATOL)


@pytest.mark.parametrize('branch', BRANCHES)
def test_leccr_features(leccr_golden, branch):
  arrays = reference.read(leccr_golden, f'{branch}_model.npz')
  module, params, _ = reference.model(leccr_golden, branch)
  mask = arrays.get('frame_mask')
  visual = arrays['image_tokens' if branch == 'image' else 'frames']
  found = jax.jit(lambda params: reference.features(
      module, params, visual, mask, arrays))(params)
  check(found.visual, arrays[f'feat/{branch}'], ATOL)
  check(found.source, arrays['feat/src'], ATOL)
  check(found.target, arrays['feat/tgt'], ATOL)
  check(batch_first(found.slots), arrays['feat/slots'], ATOL)


def test_leccr_mean_pooling_of_image_tokens(leccr_golden):
  """The frames' pooling, of image tokens that all count."""
  arrays = reference.read(leccr_golden, 'image_model.npz')
  module, params, _ = reference.model(leccr_golden, 'image')
  tokens = batch_first(arrays['interaction/image_out'])
  got = apply(module, 'project_visual', params, tokens,
              np.ones(tokens.shape[:2], bool))
  check(got, arrays['feat/image_mean_pool'], ATOL)


def test_leccr_zero_queries_make_all_slots_equal(leccr_golden):
  arrays = reference.read(leccr_golden, 'image_model.npz')
  module, params, _ = reference.model(leccr_golden, 'image')
  params = {'params': {**params['params'], 'queries': np.zeros_like(
      params['params']['queries'])}}
  found = apply(module, 'interact', params, arrays['image_tokens'], None,
                arrays['caption_hidden'], reference.masks(arrays))
  wanted = reference.sub(arrays, 'interaction_zero_queries/')
  check(batch_first(found.raw_slots), wanted['slots_raw'], ATOL)
  check(batch_first(found.slots), wanted['slots_out'], ATOL)
  for slot in range(1, found.slots.shape[1]):
    np.testing.assert_array_equal(found.slots[:, slot], found.slots[:, 0])
