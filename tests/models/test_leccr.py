"""LECCR's model where golden data does not reach: padding, ties, sizes."""
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.losses import leccr as losses
from jaxret.models import bert, clip, encoder, leccr

TEXT = bert.BertConfig(encoder.EncoderConfig(8, 12, 1, 2, dropout=0.1), 20, 12)
VIDEO = leccr.LeccrConfig(
    TEXT, None, 16, 8, slots=3, reader_layers=2, interaction_layers=2,
    frame_layers=1)


def video_inputs(n_frames=5, n_tokens=6):
  random = np.random.default_rng(0)
  lengths = np.array([3, 5, 1, 4])
  frames = random.normal(size=(4, n_frames, 16)).astype(np.float32)
  mask = np.arange(n_frames) < lengths[:, None]
  captions = random.integers(20, size=(8, n_tokens))
  caption_mask = np.arange(n_tokens) < random.integers(
      1, 7, size=8)[:, None]
  return [frames * mask[..., None], mask, captions, caption_mask,
          captions[:4], caption_mask[:4]]


@functools.lru_cache
def params_of(config):
  """Random values everywhere: zero biases would hide a missing one."""
  inputs = video_inputs()
  shapes = jax.eval_shape(
      leccr.Leccr(config).init, jax.random.key(0), *inputs)
  random = np.random.default_rng(1)
  return jax.tree.map(
      lambda leaf: random.normal(0.1, 0.3, leaf.shape).astype(np.float32),
      shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, *inputs):
  return module.apply(params, *inputs)


@pytest.mark.slow
def test_padding_of_frames_and_texts_changes_nothing():
  module, params = leccr.Leccr(VIDEO), params_of(VIDEO)
  inputs = video_inputs()
  found = run(module, params, *inputs)
  def pad(array):
    width = [(0, 0), (0, 3)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, width)
  more = run(module, params, *map(pad, inputs))
  for name in ('visual', 'source', 'target', 'slots', 'raw_slots'):
    np.testing.assert_allclose(
        getattr(found, name), getattr(more, name), atol=1e-5, err_msg=name)


def loss_of(released, found, mask):
  recipe = losses.PRESETS['released' if released else 'corrected']
  parts = losses.terms(found, recipe, np.array([0, 1, 0, 2]), mask)
  return parts['description']


@pytest.mark.slow
@pytest.mark.parametrize('released', [True, False])
def test_description_loss_does_not_depend_on_static_padding(released):
  """As the authors it counts padding up to the longest video, no further."""
  module, params = leccr.Leccr(VIDEO), params_of(VIDEO)
  inputs = video_inputs()
  found = loss_of(released, run(module, params, *inputs), inputs[1])
  inputs[0] = np.pad(inputs[0], ((0, 0), (0, 3), (0, 0)))
  inputs[1] = np.pad(inputs[1], ((0, 0), (0, 3)))
  more = loss_of(released, run(module, params, *inputs), inputs[1])
  np.testing.assert_allclose(found, more, atol=1e-5)


@pytest.mark.slow
def test_zero_queries_are_told_apart_by_the_first_of_tied_maxima():
  module = leccr.Leccr(dataclasses.replace(VIDEO, query_init='zeros'))
  inputs = video_inputs()
  params = jax.jit(module.init)(jax.random.key(0), *inputs)
  assert not params['params']['queries'].any()
  def loss(params):
    found = module.apply(params, *inputs)
    return losses.slot_contrastive(
        found.slots, found.source, found.temperature).mean()
  queries = jax.jit(jax.grad(loss))(params)['params']['queries']
  assert np.isfinite(queries).all()
  assert np.abs(queries[0]).max() > 1e-8
  np.testing.assert_array_equal(queries[1], queries[2])
  assert np.abs(queries[0] - queries[1]).max() > 1e-8


@pytest.mark.slow
def test_descriptions_teach_the_text_encoder_nothing():
  module, params = leccr.Leccr(VIDEO), params_of(VIDEO)
  inputs = video_inputs()
  def total(params):
    found = module.apply(params, *inputs)
    return (found.slots ** 2).sum() + (found.visual * normal).sum()
  normal = np.random.default_rng(2).normal(size=(4, 8))
  gradients = jax.jit(jax.grad(total))(params)['params']
  assert not any(leaf.any() for leaf in jax.tree.leaves(
      gradients['text_encoder']))
  assert all(leaf.any() for leaf in jax.tree.leaves(
      gradients['description_to_slots']['layers']['mlp']))


@pytest.mark.slow
def test_without_slots_a_visual_is_its_own_tokens():
  config = dataclasses.replace(VIDEO, slots=0)
  module, inputs = leccr.Leccr(config), video_inputs()[:4]
  params = jax.jit(module.init)(jax.random.key(0), *inputs)
  assert set(params['params']) == {
      'text_encoder', 'frames', 'heads', 'temperature'}
  assert set(params['params']['heads']) == {'text', 'vision'}
  found = run(module, params, *inputs)
  assert found.slots is None
  embed = jax.jit(functools.partial(module.apply, method='embed_gallery'))
  visual, slots = embed(params, *inputs[:2])
  assert slots is None
  np.testing.assert_allclose(visual, found.visual, atol=1e-6)
  parts = losses.terms(found, losses.PRESETS['corrected'], np.arange(4))
  assert set(parts) == {'source', 'target', 'languages', 'softened'}


@pytest.mark.slow
def test_layers_of_a_stack_start_equal():
  module, inputs = leccr.Leccr(VIDEO), video_inputs()
  params = jax.jit(module.init)(jax.random.key(0), *inputs)['params']
  shared = leccr.share_first_layers(params)
  for name in ('description_to_slots', 'vision_to_slots'):
    for old, new in zip(*map(jax.tree.leaves, (params[name], shared[name]))):
      np.testing.assert_array_equal(new[0], old[0])
      np.testing.assert_array_equal(new[1], old[0])
  assert shared['text_encoder'] is params['text_encoder']


def test_published_sizes_and_their_shards():
  """The video model at width 4096: 705 M in seven layers, 34 M beside them."""
  text = bert.BertConfig(
      encoder.EncoderConfig(768, 3072, 12, 12), 119547, 512)
  config = leccr.LeccrConfig(text, None, 4096, 256, 2, 2, 2, 1)
  abstract = jax.eval_shape(
      leccr.Leccr(config).init, jax.random.key(0), jnp.zeros((1, 3, 4096)),
      jnp.ones((1, 3), bool), jnp.zeros((2, 2), int), jnp.ones((2, 2), bool),
      jnp.zeros((1, 2), int), jnp.ones((1, 2), bool))
  flat = sharding.flatten(abstract)
  def count(pattern):
    return sum(math.prod(leaf.shape) for path, leaf in flat.items()
               if any(part in path for part in pattern))
  layer = 6 * 4096 ** 2 + 6 * 4096 + 2 * 4096  # one norm: the other is unused
  stacks = ('frames/', 'description_to_slots', 'slots_to_vision',
            'vision_to_slots')
  assert count(stacks) == 7 * layer == 704_872_448
  assert count(('matched_',)) == 2 * (4096 ** 2 + 4096) == 33_562_624
  assert count(('text_encoder',)) + 768 * 769 == 177_853_440  # as published
  mesh = sharding.make_mesh({'data': 1, 'tensor': 8})
  places = sharding.flatten(sharding.shardings(mesh, abstract))
  for path, leaf in flat.items():
    if path.endswith('kernel') and any(part in path for part in stacks):
      shard = places[path].shard_shape(leaf.shape)
      assert math.prod(shard) * 8 == math.prod(leaf.shape), path


def test_published_image_sizes():
  """CLIP ViT-B/32 at 384 px: 145 tokens of 512; 11 M in the seven layers."""
  vision = clip.ClipVisionConfig(
      encoder.EncoderConfig(768, 3072, 12, 12, 'quick_gelu'), 384, 32)
  assert vision.n_tokens == 145
  config = leccr.LeccrConfig(TEXT, vision, 512, 256, 4, 3, 2)
  flat = sharding.flatten(jax.eval_shape(
      leccr.Leccr(config).init, jax.random.key(0),
      jnp.zeros((1, 384, 384, 3), jnp.uint8), None, jnp.zeros((2, 2), int),
      jnp.ones((2, 2), bool), jnp.zeros((1, 2), int), jnp.ones((1, 2), bool)))
  tower = sum(math.prod(leaf.shape) for path, leaf in flat.items()
              if path.startswith(('params/vision/', 'params/vision_head/')))
  assert tower - (145 - 50) * 768 == 87_849_216  # the published ViT-B/32
  slots = sum(math.prod(leaf.shape) for path, leaf in flat.items()
              if '_to_' in path)
  assert slots == 7 * (6 * 512 ** 2 + 8 * 512)


def test_wrong_choices_are_refused_in_one_line():
  for changes, message in (
      ({'query_init': 'ones'}, "query_init 'ones' is not known"),
      ({'frame_layers': 0}, 'got 0 frame layers without a vision tower'),
      ({'visual_width': 20}, 'visual_width 20 is no multiple of the 8 heads')):
    with pytest.raises(ValueError, match=message) as caught:
      dataclasses.replace(VIDEO, **changes)
    assert '\n' not in str(caught.value)
