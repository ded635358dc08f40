"""CLIP's and BERT's modules where golden data does not reach."""
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.models import (
  bert,
  clip,
  encoder,
  encoder_names,
  layers,
  names,
  pretrained,
)

SIZES = encoder.EncoderConfig(8, 12, 2, 2, dropout=0.5)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, key, *inputs):
  rngs = None if key is None else {'dropout': key}
  return module.apply(params, *inputs, rngs=rngs)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_dropped_attention_weights_by_hand():
  """Dropping what attends to key 0 leaves the others as they were."""
  query, key, value = (normal(1, 3, 2, 4, seed=i) for i in range(3))
  mask = np.ones((1, 1, 1), bool)
  kept = np.array([0.0, 2.0, 1.0])
  got, lse = layers.attention(query, key, value, mask, lambda w: w * kept)
  _, whole = layers.attention(query, key, value, mask)
  scores = np.einsum('BTNH,BSNH->BNTS', query, key) / 2
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(
      got, np.einsum('BNTS,BSNH->BTNH', weights * kept, value), atol=1e-5)
  np.testing.assert_array_equal(lse, whole)


@pytest.mark.parametrize('layer, n_arguments', [
    (encoder.PreNormLayer, 1), (encoder.PostNormLayer, 1),
    (encoder.SlotLayer, 2)])
def test_dropout_needs_a_key_and_reaches_every_layer(layer, n_arguments):
  class Module(encoder.nn.Module):
    @encoder.nn.compact
    def __call__(self, x):
      everything = jnp.ones((1, 1, 1), bool)
      arguments = (None, everything)[-n_arguments:]
      return encoder.stack(layer, SIZES, 'layers', n_arguments)(
          x, *arguments)[0]
  x = normal(2, 3, 8)
  params = Module().init(jax.random.key(0), x)
  plain = run(Module(), params, None, x)
  np.testing.assert_array_equal(plain, run(Module(), params, None, x))
  first, second = (run(Module(), params, jax.random.key(i), x)
                   for i in (1, 2))
  assert np.abs(first - plain).max() > 0.01
  assert np.abs(first - second).max() > 0.01
  np.testing.assert_array_equal(
      first, run(Module(), params, jax.random.key(1), x))


def bert_tensors():
  """A tiny BERT as the hub has it: prefixed, with heads, from TensorFlow."""
  shapes = {'embeddings.word_embeddings.weight': (20, 8),
            'embeddings.position_embeddings.weight': (6, 8),
            'embeddings.token_type_embeddings.weight': (2, 8),
            'embeddings.LayerNorm.gamma': (8,),
            'embeddings.LayerNorm.beta': (8,)}
  for i in range(2):
    for name in ('attention.self.query', 'attention.self.key',
                 'attention.self.value', 'attention.output.dense'):
      shapes[f'encoder.layer.{i}.{name}.weight'] = (8, 8)
      shapes[f'encoder.layer.{i}.{name}.bias'] = (8,)
    for name in ('attention.output', 'output'):
      shapes[f'encoder.layer.{i}.{name}.LayerNorm.gamma'] = (8,)
      shapes[f'encoder.layer.{i}.{name}.LayerNorm.beta'] = (8,)
    for name, shape in (('intermediate', (12, 8)), ('output', (8, 12))):
      shapes[f'encoder.layer.{i}.{name}.dense.weight'] = shape
      shapes[f'encoder.layer.{i}.{name}.dense.bias'] = shape[:1]
  tensors = {f'bert.{key}': normal(*shape, seed=i)
             for i, (key, shape) in enumerate(shapes.items())}
  return tensors | {'cls.predictions.bias': normal(20),
                    'cls.predictions.transform.LayerNorm.gamma': normal(8),
                    'cls.seq_relationship.weight': normal(2, 8)}


BERT = {'model_type': 'bert', 'hidden_size': 8, 'intermediate_size': 12,
        'num_hidden_layers': 2, 'num_attention_heads': 2, 'hidden_act': 'gelu',
        'layer_norm_eps': 1e-12, 'vocab_size': 20, 'type_vocab_size': 2,
        'max_position_embeddings': 6, 'hidden_dropout_prob': 0.1,
        'attention_probs_dropout_prob': 0.1, 'pad_token_id': 0}


def write(directory, config, tensors):
  (directory / 'config.json').write_text(json.dumps(config))
  safetensors.numpy.save_file(tensors, directory / 'model.safetensors')
  return directory


def test_hub_names_of_bert_are_read(tmp_path):
  tensors = bert_tensors()
  checkpoint, config = bert.open_bert(write(tmp_path, BERT, tensors))
  assert config.encoder.dropout == 0.1 and config.first_position == 0
  module = bert.Bert(config)
  abstract = jax.eval_shape(
      module.init, jax.random.key(0), np.zeros((1, 2), int),
      np.ones((1, 2), bool))['params']
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 2, 'tensor': 4})
  places = sharding.shardings(mesh, {'params': {'text_encoder': abstract}})
  params, missing = pretrained.load(
      checkpoint, encoder_names.BERT, {'text_encoder': abstract},
      places['params'])
  assert not missing and set(params) == {'text_encoder'}
  found = params['text_encoder']
  np.testing.assert_array_equal(
      found['layers']['mlp_norm']['scale'][1],
      tensors['bert.encoder.layer.1.output.LayerNorm.gamma'])
  np.testing.assert_array_equal(
      found['layers']['attention']['o']['kernel'][0],
      tensors['bert.encoder.layer.0.attention.output.dense.weight'].T)
  with pytest.raises(ValueError, match='got 7 tokens, it has positions for 6'):
    jax.eval_shape(module.apply, {'params': found}, np.zeros((1, 7), int),
                   np.ones((1, 7), bool))


@pytest.mark.parametrize('change, message', [
    ({'model_type': 'roberta'}, "got model_type 'roberta', want bert or xlm-"),
    ({'hidden_act': 'relu'}, "got hidden_act = 'relu', want 'gelu'"),
    ({'position_embedding_type': 'relative_key'}, "want 'absolute'"),
    ({'attention_probs_dropout_prob': 0.2}, 'want that of hidden states, 0.1'),
    ({'vocab_size': None}, "no field 'vocab_size'"),
])
def test_other_text_encoders_are_refused_in_one_line(
    tmp_path, change, message):
  config = {key: value for key, value in (BERT | change).items()
            if value is not None}
  with pytest.raises(ValueError, match=message) as caught:
    bert.open_bert(write(tmp_path, config, bert_tensors()))
  assert '\n' not in str(caught.value)


def test_xlmr_counts_positions_from_its_padding_id(tmp_path):
  config = BERT | {'model_type': 'xlm-roberta', 'pad_token_id': 1}
  _, found = bert.open_bert(write(tmp_path, config, bert_tensors()))
  assert (found.first_position, found.max_tokens) == (2, 4)


VISION = clip.ClipVisionConfig(
    encoder.EncoderConfig(8, 12, 2, 2, 'quick_gelu'), 8, 4)


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
          dataclasses.replace(SIZES, heads=3))),
      ("activation 'tanh' is not known", lambda: (
          dataclasses.replace(SIZES, activation='tanh'))),
      ('resize the images or set image_px', lambda: jax.eval_shape(
          clip.ClipVision(VISION).init, jax.random.key(0),
          jnp.zeros((1, 12, 12, 3))))):
    with pytest.raises(ValueError, match=message) as caught:
      call()
    assert '\n' not in str(caught.value)
