"""LECCR's encoders against the authors' CLIP and transformers' models."""
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from safetensors.numpy import load_file

from jaxret.models import bert, clip, encoder_names, pretrained
from tests.parity import leccr_reference as reference
from tests.parity.leccr_reference import ATOL, apply, check

TEXT_MODELS = ('bert', 'xlmr')


@pytest.fixture(scope='module')
def io(leccr_golden):
  return reference.read(leccr_golden, 'hf_io.npz')


def images(arrays, name):
  return np.moveaxis(arrays[name], 1, -1)


def first_layers(params, roots, n_layers):
  """Parameters with the first `n_layers` layers of the named towers."""
  return {root: {**tree, 'layers': jax.tree.map(
      lambda leaf: leaf[:n_layers], tree['layers'])} if root in roots else tree
          for root, tree in params.items()}


def with_layers(config, n_layers):
  return dataclasses.replace(config, encoder=dataclasses.replace(
      config.encoder, layers=n_layers))


def hidden_states(arrays, prefix):
  """{i: what stands after layer i}, from the first layer on."""
  found = {int(name): array
           for name, array in reference.sub(arrays, prefix).items()}
  assert sorted(found) == list(range(len(found))) and len(found) > 1
  return found


@pytest.fixture(scope='module')
def hf_clip(leccr_golden):
  checkpoint, table, config = clip.open_clip(leccr_golden / 'hf_clip')
  params, missing = pretrained.load(checkpoint, table)
  assert all(path.startswith('unread/') for path in missing)
  return config, params


def test_leccr_clip_of_transformers(io, hf_clip):
  config, params = hf_clip
  model = reference.Clip(config)
  pixels = images(io, 'clip/pixel_values')
  lengths = io['clip/attention_mask'].sum(1)
  got_images, got_texts, scale = apply(
      model, None, {'params': params}, pixels, io['clip/input_ids'], lengths)
  def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
  got_images, got_texts = unit(got_images), unit(got_texts)
  check(got_images, io['clip/image_embeds_l2'], ATOL)
  check(got_texts, io['clip/text_embeds_l2'], ATOL)
  check(scale * got_images @ got_texts.T, io['clip/logits_per_image'], ATOL)
  check(apply(model, 'image_tokens', {'params': params}, pixels),
        io['clip/vision_tokens_projected'], ATOL)


def test_leccr_clip_hidden_states_of_every_layer(io, hf_clip):
  """A tower of i layers gives what stands after layer i of the whole one."""
  config, params = hf_clip
  pixels = images(io, 'clip/pixel_values')
  wanted = hidden_states(io, 'clip/vision_hidden_')
  for n_layers in range(1, len(wanted)):
    tower = clip.ClipVision(with_layers(config.vision, n_layers))
    some = first_layers(params, ('vision',), n_layers)['vision']
    got = apply(tower, None, {'params': some}, pixels)
    check(got, wanted[n_layers], ATOL, f'vision layer {n_layers}')
  check(got, io['clip/vision_last_hidden_state'], ATOL)
  head = clip.ClipVisionHead(config.vision.encoder, config.embedding_width)
  norm = {'norm': params['vision_head']['norm'],
          'projection': {'kernel': np.eye(got.shape[-1], dtype=np.float32)}}
  pooled = apply(clip.ClipVisionHead(head.config, got.shape[-1]), None,
                 {'params': norm}, got[:, 0])
  check(pooled, io['clip/vision_pooled'], ATOL)


def test_leccr_clip_text_hidden_states(io, hf_clip):
  config, params = hf_clip
  tokens, mask = io['clip/input_ids'], io['clip/attention_mask'].astype(bool)
  text = params['clip_text']
  embedded = text['embed']['tokens'][tokens] + text['embed']['positions'][
      :tokens.shape[1]]
  wanted = hidden_states(io, 'clip/text_hidden_')
  check(embedded, wanted[0], ATOL)
  got = apply(reference.ClipText(config.text), None, {'params': text}, tokens,
              mask)
  check(got, io['clip/text_last_hidden_state'], ATOL)
  ends = mask.sum(1) - 1
  check(np.asarray(got)[np.arange(len(ends)), ends], io['clip/text_pooled'],
        ATOL)


def test_leccr_clip_of_openai(leccr_golden):
  arrays = reference.read(leccr_golden, 'openai_clip.npz')
  checkpoint, table, config = clip.open_clip(
      leccr_golden / 'openai_clip_params.safetensors')
  params, _ = pretrained.load(checkpoint, table)
  model = reference.Clip(config)
  pixels = images(arrays, 'pixels')
  tokens = apply(model, 'image_tokens', {'params': params}, pixels)
  check(tokens, arrays['image_tokens_projected'], ATOL)
  check(tokens[:, 0], arrays['image_cls'], ATOL)
  ids = arrays['token_ids']
  ends = ids.argmax(1)
  check(apply(model, 'text_tokens', {'params': params}, ids,
              np.ones(ids.shape, bool)),
        arrays['text_tokens_projected'], ATOL)
  # What follows the end is not seen, so that lengths give the same.
  _, texts, _ = apply(model, None, {'params': params}, pixels, ids, ends + 1)
  check(texts, arrays['text_feat'], ATOL)


def test_leccr_position_resize(leccr_golden):
  cases = reference.sub(
      reference.read(leccr_golden, 'openai_clip.npz'), 'pos_resize/')
  names = {name.split('/')[0] for name in cases}
  assert names
  for name in names:
    grid = round((len(cases[f'{name}/out']) - 1) ** 0.5)
    assert name.endswith(f'to{grid}')
    check(clip.resize_positions(cases[f'{name}/in'], grid),
          cases[f'{name}/out'], ATOL, name)


@pytest.mark.parametrize(
    'source', ['hf_clip', 'openai_clip_params.safetensors'])
def test_leccr_tower_is_loaded_at_another_resolution(leccr_golden, source):
  """As LECCR does: the vision side alone, its positions resized."""
  _, _, trained = clip.open_clip(leccr_golden / source)
  grid = trained.vision.grid + 2
  checkpoint, table, config = clip.open_clip(
      leccr_golden / source, grid * trained.vision.patch_px)
  model = reference.Clip(config)
  px = config.vision.image_px
  abstract = jax.eval_shape(
      lambda key: model.init(key, jnp.zeros((1, px, px, 3)),
                             jnp.zeros((1, 2), int), jnp.ones(1, int)),
      jax.random.key(0))['params']
  abstract = {root: abstract[root] for root in ('vision', 'vision_head')}
  params, missing = clip.load(checkpoint, table, abstract)
  assert not missing and set(params) == {'vision', 'vision_head'}
  positions = next(w.key for w in table if w.path == 'vision/positions')
  np.testing.assert_array_equal(
      params['vision']['positions'],
      clip.resize_positions(checkpoint.tensors[positions][:], grid))
  assert len(params['vision']['positions']) == grid ** 2 + 1


@pytest.fixture(scope='module', params=TEXT_MODELS)
def text_model(request, leccr_golden, io):
  """(name, BertConfig, parameters, arrays)."""
  name = request.param
  checkpoint, config = bert.open_bert(
      leccr_golden / f'hf_{name}', dropout=0.0)
  params, missing = pretrained.load(checkpoint, encoder_names.BERT)
  assert all(path.startswith('unread/') for path in missing)
  return name, config, params, reference.sub(io, f'{name}/')


def test_leccr_text_encoder(text_model):
  name, config, params, arrays = text_model
  mask = arrays['attention_mask'].astype(bool)
  inputs = arrays['input_ids'], mask, arrays.get('token_type_ids')
  wanted = hidden_states(arrays, 'hidden_')
  got = apply(bert.Bert(config), 'embeddings',
              {'params': params['text_encoder']}, *inputs)
  check(got, wanted[0], ATOL, name)
  for n_layers in range(1, len(wanted)):
    some = first_layers(params, ('text_encoder',), n_layers)['text_encoder']
    got = apply(bert.Bert(with_layers(config, n_layers)), None,
                {'params': some}, *inputs)
    check(got, wanted[n_layers], ATOL, f'{name} layer {n_layers}')
  check(got, arrays['last_hidden_state'], ATOL, name)
  pooler = params['pooler']
  check(np.tanh(got[:, 0] @ pooler['kernel'] + pooler['bias']),
        arrays['pooler_output'], ATOL, name)


def test_leccr_text_encoder_does_not_see_padding(text_model):
  """One row at a time, cut to its length, gives the same hidden states."""
  _, config, params, arrays = text_model
  params = {'params': params['text_encoder']}
  types = arrays.get('token_type_ids', np.zeros_like(arrays['input_ids']))
  mask = arrays['attention_mask'].astype(bool)
  for row, length in enumerate(mask.sum(1)):
    got = apply(bert.Bert(config), None, params,
                arrays['input_ids'][row:row + 1, :length],
                mask[row:row + 1, :length], types[row:row + 1, :length])
    check(got[0], arrays['last_hidden_state'][row, :length], ATOL)


@pytest.mark.parametrize('name', ['hf_clip', 'hf_bert', 'hf_xlmr'])
def test_leccr_checkpoints_are_read_strictly_both_ways(
    leccr_golden, tmp_path, name):
  """A tensor too many or too few is named; so is a size that differs."""
  def open_(directory):
    if name == 'hf_clip':
      return clip.open_clip(directory)[:2]
    return bert.open_bert(directory)[0], encoder_names.BERT
  tensors = load_file(leccr_golden / name / 'model.safetensors')
  config = json.loads((leccr_golden / name / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps(config))
  def saved(changed):
    safetensors.numpy.save_file(changed, tmp_path / 'model.safetensors')
    return open_(tmp_path)
  whole, _ = pretrained.load(*saved(tensors))
  abstract = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole)
  key = sorted(key for key in tensors if '.0.' in key)[0]
  with pytest.raises(ValueError, match=f'fit no parameter: {key}2'):
    pretrained.load(*saved({**tensors, f'{key}2': tensors[key]}), abstract)
  fewer = {other: tensor for other, tensor in tensors.items() if other != key}
  with pytest.raises(ValueError, match=f'missing: {key}'):
    pretrained.load(*saved(fewer), abstract)
  longer = {**tensors, key: np.concatenate([tensors[key], tensors[key][:1]])}
  with pytest.raises(ValueError, match=f'{key} has shape'):
    pretrained.load(*saved(longer), abstract)
