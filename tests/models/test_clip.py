"""CLIP's modules where golden data does not reach."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.models import clip, encoder, encoder_names, names, pretrained

VISION = clip.ClipVisionConfig(
    encoder.EncoderConfig(8, 12, 2, 2, 'quick_gelu'), 8, 4)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_clip_pixel_values_by_hand():
  pixels = clip.pixel_values(np.array([[[0, 128, 255]]], np.uint8))
  want = [(v / 255 - m) / s for v, m, s in zip(
      (0, 128, 255), clip.MEAN, clip.STD)]
  np.testing.assert_allclose(pixels[0, 0], want, rtol=1e-6)


def test_the_last_layer_may_stay_unread():
  """What a model of the last but one layer's features does."""
  table = names.within(encoder_names.CLIP_VISION, spare_layers=1)
  less = dataclasses.replace(VISION, encoder=dataclasses.replace(
      VISION.encoder, layers=1))
  abstract, whole = (
      jax.eval_shape(clip.ClipVision(config).init, jax.random.key(0),
                     jnp.zeros((1, 8, 8, 3)))['params']
      for config in (less, VISION))
  whole = sharding.flatten({'vision': whole})
  tensors = {'post_layernorm.weight': np.ones(8, np.float32),
             'post_layernorm.bias': np.ones(8, np.float32)}
  for weight in table:
    shape = whole[weight.path].shape if weight.path in whole else None
    if weight.transform == 'patch':
      shape = (8, 3, 4, 4)
    elif shape and '{layer}' in weight.key:
      shape = shape[1:]
    if shape and weight.transform == 'transpose':
      shape = shape[::-1]
    for i in range(2 if shape else 0):
      tensors[weight.key.format(layer=i)] = normal(*shape, seed=i)
  checkpoint = pretrained.Checkpoint('tiny', tensors)
  params, _ = clip.load(checkpoint, table, {'vision': abstract})
  found = params['vision']['layers']['mlp']['in']['kernel']
  np.testing.assert_array_equal(
      found, tensors['encoder.layers.0.mlp.fc1.weight'].T[None])
  with pytest.raises(ValueError, match='fit no parameter: encoder.layers.1'):
    clip.load(checkpoint, encoder_names.CLIP_VISION, {'vision': abstract})


def test_wrong_sizes_are_refused_in_one_line():
  for message, call in (
      ('image_px 10 is no multiple of patch_px 4', lambda: (
          dataclasses.replace(VISION, image_px=10))),
      ('width 8 is no multiple of its 3 heads', lambda: (
          dataclasses.replace(VISION.encoder, heads=3))),
      ("activation 'tanh' is not known", lambda: (
          dataclasses.replace(VISION.encoder, activation='tanh'))),
      ('resize the images or set image_px', lambda: jax.eval_shape(
          clip.ClipVision(VISION).init, jax.random.key(0),
          jnp.zeros((1, 12, 12, 3))))):
    with pytest.raises(ValueError, match=message) as caught:
      call()
    assert '\n' not in str(caught.value)
