"""PEFT's adapter files: what is read of them, and what is refused."""
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxret import sharding
from jaxret.models import adapter_import, adapters, names
from jaxret.models.llava import names as llava_names

WIDTH, KV, LAYERS = 8, 4, 3
ROOT = 'base_model.model.model.language_model.layers.{}.self_attn.'
CONFIG = {'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4,
          'target_modules': ['q_proj', 'v_proj']}


def random(*shape):
  return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


@pytest.fixture
def model():
  """Parameters of the decoder's attention, its embedding, and no head."""
  flat = {'decoder/embed/embedding': random(20, WIDTH)}
  for name, features in (('q', WIDTH), ('k', KV), ('v', KV)):
    flat[f'decoder/layers/attention/{name}/kernel'] = random(
        LAYERS, WIDTH, features)
    flat[f'decoder/layers/attention/{name}/bias'] = random(LAYERS, features)
  flat['vision/patch/kernel'] = random(12, WIDTH)
  return {'params': sharding.unflatten(flat)}


def tensors(layers=(0, 1, 2), rank=2, width=WIDTH):
  found = {}
  for layer in layers:
    for name, features in (('q', WIDTH), ('v', KV)):
      key = f'{ROOT.format(layer)}{name}_proj.lora_'
      found[f'{key}A.weight'] = random(rank, width) + layer
      found[f'{key}B.weight'] = random(features, rank) - layer
  return found


def write(directory, found, **fields):
  save_file(found, directory / 'adapter_model.safetensors')
  (directory / 'adapter_config.json').write_text(
      json.dumps({**CONFIG, **fields}))
  return directory


def read(directory, model):
  return adapter_import.import_peft(directory, names.QWEN2_VL, model)


def kernels(params, name):
  return params['params']['decoder']['layers']['attention'][name]['kernel']


def test_factors_come_stacked_and_turned(tmp_path, model):
  found = tensors()
  adapter = read(write(tmp_path, found), model)
  assert adapter.scale == 2.0 and adapter.modules is None
  q = adapter.lora['decoder']['layers']['attention']['q']
  assert q['a'].shape == (LAYERS, WIDTH, 2) and q['b'].shape == (
      LAYERS, 2, WIDTH)
  merged = adapters.merge(model, adapter)
  for layer in range(LAYERS):
    key = f'{ROOT.format(layer)}v_proj.lora_'
    want = kernels(model, 'v')[layer] + 2 * (
        found[f'{key}B.weight'] @ found[f'{key}A.weight']).T
    np.testing.assert_allclose(kernels(merged, 'v')[layer], want, atol=1e-5)
  np.testing.assert_array_equal(kernels(merged, 'k'), kernels(model, 'k'))


def test_layers_without_factors_stay_as_they_are(tmp_path, model):
  """A single layer's factors never reach the others."""
  adapter = read(write(tmp_path, tensors([1]), layers_to_transform=[1]), model)
  merged = adapters.merge(model, adapter)
  for layer in (0, 2):
    np.testing.assert_array_equal(
        kernels(merged, 'q')[layer], kernels(model, 'q')[layer])
  assert np.abs(kernels(merged, 'q')[1] - kernels(model, 'q')[1]).max() > 0.1


def test_ranks_and_scales_of_layers_of_their_own(tmp_path, model):
  found = {**tensors([0, 1]), **tensors([2], rank=5)}
  adapter = read(write(tmp_path, found, rank_pattern={r'layers.2..*': 5},
                       alpha_pattern={'layers.1.self_attn.q_proj': 1}), model)
  merged = adapters.merge(model, adapter)
  for layer, scale in enumerate((4 / 2, 1 / 2, 4 / 5)):
    key = f'{ROOT.format(layer)}q_proj.lora_'
    want = kernels(model, 'q')[layer] + scale * (
        found[f'{key}B.weight'] @ found[f'{key}A.weight']).T
    np.testing.assert_allclose(kernels(merged, 'q')[layer], want, atol=1e-5)


@pytest.mark.parametrize('spelled, bare', [
    ('model.language_model.layers', False), ('model.layers', False),
    ('language_model.layers', True), ('layers', True)])
def test_spellings_of_transformers_and_its_bare_models(
    tmp_path, model, spelled, bare):
  found = {key.replace('model.language_model.layers', spelled): tensor
           for key, tensor in tensors().items()}
  got = read(write(tmp_path, found), model)
  want = adapter_import.import_peft(tensors(), names.QWEN2_VL)
  for path, leaf in sharding.flatten(want.lora).items():
    np.testing.assert_array_equal(sharding.flatten(got.lora)[path], leaf)


def test_llava_s_newer_names_are_known():
  key = 'base_model.model.model.{}.lora_{}.weight'
  found = {}
  for name in ('language_model.layers.0.self_attn.q_proj',
               'vision_tower.encoder.layers.0.mlp.fc1'):
    found[key.format(name, 'A')] = random(2, WIDTH)
    found[key.format(name, 'B')] = random(WIDTH, 2)
  read = adapter_import.import_peft(found, llava_names.MM_EMBED)
  assert set(sharding.flatten(read.lora)) == {
      f'{path}/{part}' for part in 'ab' for path in (
          'decoder/layers/attention/q', 'vision/layers/mlp/in')}


def test_convolutions_and_embeddings(tmp_path, model):
  patch = random(2, 3, 1, 2, 2)
  up = random(WIDTH, 2, 1, 1, 1)
  embedding = random(2, 20), random(WIDTH, 2)
  found = {
      'base_model.model.visual.patch_embed.proj.lora_A.weight': patch,
      'base_model.model.visual.patch_embed.proj.lora_B.weight': up,
      'base_model.model.model.embed_tokens.lora_embedding_A': embedding[0],
      'base_model.model.model.embed_tokens.lora_embedding_B': embedding[1]}
  merged = adapters.merge(model, read(write(
      tmp_path, found, target_modules=['patch_embed.proj', 'embed_tokens']),
                                      model))['params']
  np.testing.assert_allclose(
      merged['vision']['patch']['kernel'],
      model['params']['vision']['patch']['kernel']
      + 2 * (up.reshape(WIDTH, 2) @ patch.reshape(2, 12)).T, atol=1e-5)
  np.testing.assert_allclose(
      merged['decoder']['embed']['embedding'],
      model['params']['decoder']['embed']['embedding']
      + 2 * (embedding[1] @ embedding[0]).T, atol=1e-5)


def test_tokens_whole_tensors_and_layers_take_the_place_of_the_model_s(
    tmp_path, model):
  tokens, bias = random(2, WIDTH), random(WIDTH)
  found = tensors() | {
      'base_model.model.model.language_model.embed_tokens.token_adapter.'
      'trainable_tokens_delta': tokens,
      f'{ROOT.format(1)}q_proj.base_layer.bias': bias,
      'base_model.model.lm_head.weight': random(20, WIDTH)}
  merged = adapters.merge(model, read(write(
      tmp_path, found, trainable_token_indices=[4, 7], bias='lora_only',
      modules_to_save=['lm_head']), model))['params']['decoder']
  want = model['params']['decoder']['embed']['embedding'].copy()
  want[[4, 7]] = tokens
  np.testing.assert_array_equal(merged['embed']['embedding'], want)
  want = model['params']['decoder']['layers']['attention']['q']['bias'].copy()
  want[1] = bias
  np.testing.assert_array_equal(merged['layers']['attention']['q']['bias'],
                                want)
  assert 'lm_head' not in merged


def test_layers_past_the_last_that_runs_are_of_no_use():
  """MM-Embed takes the features of its tower's last but one layer."""
  root = 'base_model.model.vision_tower.vision_model.encoder.layers.{}.mlp.fc1'
  found = {f'{root.format(layer)}.lora_{part}.weight': random(*shape)
           for layer in range(3)
           for part, shape in (('A', (2, WIDTH)), ('B', (WIDTH, 2)))}
  params = {'params': {'vision': {'layers': {'mlp': {'in': {
      'kernel': random(2, WIDTH, WIDTH)}}}}}}
  read = adapter_import.import_peft(found, llava_names.MM_EMBED, params)
  assert read.lora['vision']['layers']['mlp']['in']['a'].shape[0] == 2
  params['params']['vision']['layers']['mlp']['in']['kernel'] = random(
      1, WIDTH, WIDTH)
  with pytest.raises(ValueError, match='is of layer 2, the model has 1'):
    adapter_import.import_peft(found, llava_names.MM_EMBED, params)


def without(found, ending):
  return {key: tensor for key, tensor in found.items()
          if not key.endswith(ending)}


@pytest.mark.parametrize('found, fields, message', [
    (tensors([0, 1]), {}, r'no factors of model.language_model.layers.2.self_at'
                          'tn.q_proj, .*v_proj: is it of another model'),
    (tensors(range(4)), {}, 'is of layer 3, the model has 3'),
    (tensors(width=6), {}, r'layers/attention/q/a of the shape \(3, 6, 2\), '
                           'this model wants'),
    (tensors(rank=3), {}, 'says rank 2 of .*q_proj, its factors have 3'),
    (tensors(), {'target_modules': ['q_proj']},
     'factors that its config does not target, of .*v_proj'),
    (tensors(), {'exclude_modules': r'.*\.0\..*'}, 'does not target'),
    (without(tensors(), '1.self_attn.q_proj.lora_B.weight'), {},
     'attention/q of layer 1.* lack one of the two'),
    (tensors(), {'use_dora': True}, 'says use_dora = True, .*lack the tensor'),
    (tensors() | {f'{ROOT.format(0)}q_proj.lora_magnitude_vector':
                  random(WIDTH)}, {}, 'use_dora = False, .*have the tensor'),
    (tensors() | {f'{ROOT.format(0)}q_proj.lora_B.bias': random(WIDTH)}, {},
     'says lora_bias = False'),
    (tensors() | {f'{ROOT.format(0)}q_proj.lora_E': random(2)}, {},
     'fit no parameter: .*lora_E'),
    (tensors() | {f'{ROOT.format(0)}q_proj.bias': random(WIDTH)}, {},
     'PEFT would pass over .*q_proj.bias'),
    (tensors() | {'base_model.model.model.language_model.norm.lora_A.weight':
                  random(2, 2)}, {}, 'fits no part of .*final_norm/scale'),
    (tensors() | {f'{ROOT.format(0)}q_proj.lora_A.weight':
                  np.full((2, WIDTH), np.nan, np.float32)}, {},
     'q_proj.lora_A.weight holds NaN'),
    (tensors(), {'modules_to_save': ['score']}, "modules_to_save 'score', and"),
    (tensors() | {'base_model.model.model.language_model.embed_tokens.'
                  'token_adapter.trainable_tokens_delta': random(2, WIDTH)},
     {'trainable_token_indices': [1, 2, 3]}, 'got 2 trainable tokens of'),
    (tensors() | {'base_model.model.model.language_model.embed_tokens.'
                  'token_adapter.trainable_tokens_delta': random(2, WIDTH)},
     {'trainable_token_indices': [1, 20]}, 'of which this model has 20'),
    (tensors() | {'base_model.model.model.language_model.embed_tokens.weight':
                  random(21, WIDTH)}, {}, r'embedding of the shape \(21, 8\)'),
    ({'base_model.model.lm_head.weight': random(20, WIDTH)},
     {'target_modules': []}, 'holds nothing that this model reads')])
def test_what_does_not_fit_is_named(tmp_path, model, found, fields, message):
  write(tmp_path, found, **fields)
  with pytest.raises(ValueError, match=message) as error:
    adapters.merge(model, read(tmp_path, model))
  assert '\n' not in str(error.value)


def test_a_directory_without_weights_is_named(tmp_path, model):
  write(tmp_path, tensors())
  (tmp_path / 'adapter_model.safetensors').unlink()
  with pytest.raises(ValueError, match='got no adapter_model.safetensors'):
    read(tmp_path, model)
  with pytest.raises(ValueError, match='no such directory'):
    read(tmp_path / 'nowhere', model)


def test_plain_keys():
  for wrapped, plain in (
      ('base_model.model.lm_head.base_layer.weight', 'lm_head.weight'),
      ('base_model.model.visual_head.modules_to_save.default.weight',
       'visual_head.weight'),
      ('base_model.model.model.mm_projector.mlp.base_model.model.0.lora_A.'
       'default.weight', 'model.mm_projector.mlp.0.lora_A.weight')):
    assert adapter_import.plain_key(wrapped) == plain


def test_incomplete_and_foreign_tensors_are_named():
  key = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'
  with pytest.raises(ValueError, match='decoder/layers/attention/q'):
    adapter_import.import_peft({key: np.zeros((2, 8))})
  with pytest.raises(ValueError, match='fit no parameter: .*conv.lora_A'):
    adapter_import.import_peft(
        {'base_model.model.conv.lora_A.weight': np.zeros((2, 2))})
