"""Qwen2-VL as UNITE runs it: features, positions, hidden states, embeddings."""
import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.data import visual_tokens
from jaxret.models import pretrained, qwen2_vl_files
from jaxret.models import qwen2_vl as model_lib
from tests.parity import unite_reference as reference

# Absolute, float32, as the golden data vouch for.
FEATURES, HIDDEN, EMBEDDINGS, LOGITS = 1e-4, 2e-4, 5e-6, 1e-3


@pytest.fixture(scope='module')
def models(unite_golden):
  return {mode: reference.model(unite_golden, mode)
          for mode in model_lib.POSITION_MODES}


@pytest.fixture(scope='module')
def cases(unite_golden):
  return {name: reference.case(unite_golden, name)
          for name in reference.cases(unite_golden)}


@functools.cache
def compiled(config, method):
  return jax.jit(functools.partial(config.module().apply, method=method))


def apply(model, method, *args):
  return compiled(model.config, method)(model.params, *args)


def tower_tokens(module, batch):
  return module.visual_tokens(
      batch['patches'], batch['segments'], batch['coordinates'])


def tower_hidden(module, batch):
  def rows(x):
    return x.reshape(-1, *x.shape[2:])
  hidden = module.vision.hidden(
      rows(batch['patches']), rows(batch['segments']),
      rows(batch['coordinates']))
  return hidden.reshape(len(batch['patches']), -1, hidden.shape[-1])


def whole(module, batch):
  """(input embeddings, last hidden states, embeddings) of a batch."""
  visual = tower_tokens(module, batch) if 'patches' in batch else None
  x = module.embed(batch['tokens'], visual, batch.get('visual_index'))
  hidden = module.hidden(x, batch['keys'], batch['positions'])
  return x, hidden, model_lib.unit(model_lib.last(hidden, batch['keys']))


def logits(module, hidden):
  return sum(left @ right for left, right in module.vocabulary_terms(hidden))


def test_unite_special_tokens(unite_golden, models):
  wanted = reference.table(unite_golden, 'qwen2vl/cases.json')[
      'special_tokens']
  assert models['mrope'].special == {
      'image': wanted['image'], 'video': wanted['video'],
      'vision_start': wanted['vstart'], 'vision_end': wanted['vend']}


def test_unite_flat_and_nested_configs_say_the_same(
    unite_golden, models, tmp_path):
  shutil.copy(unite_golden / 'qwen2vl' / 'config_hub_flat.json',
              tmp_path / 'config.json')
  found = qwen2_vl_files.read_config(tmp_path)
  assert found.config == models['sequential'].config
  assert found.special == models['sequential'].special


def test_unite_sizes_are_those_of_the_golden_model(unite_golden, models):
  spec = reference.table(unite_golden, 'qwen2vl/cases.json')['spec']
  decoder, vision = (models['mrope'].config.decoder,
                     models['mrope'].config.vision)
  assert decoder.rope_sections == tuple(spec['mrope'])
  assert (decoder.width, decoder.layers, decoder.norm_eps,
          decoder.tie_embeddings) == (
      spec['hidden'], spec['layers'], spec['eps'], spec['tie'])
  assert (vision.width, vision.layers, vision.mlp_width) == (
      spec['vdim'], spec['vdepth'], spec['vdim'] * spec['vmlp'])
  head = 'lm_head' in models['mrope'].params['params']['decoder']
  assert head != spec['tie']


@pytest.mark.parametrize('patches', ['largest', 'packed', 'padded'])
def test_unite_features(models, cases, patches):
  """However slices lie in rows: one to a row, several, or with padding."""
  model = models['sequential']
  for name, arrays in cases.items():
    batch, laid, rows = reference.batch(arrays, model)
    if laid is None:
      continue
    slices = [visual_tokens.slices(seen.grids) for seen in rows]
    row_patches = {
        'largest': None, 'packed': max(map(sum, slices)),
        'padded': max(max(own, default=0) for own in slices) + 4}[patches]
    batch, laid, rows = reference.batch(
        arrays, model, row_patches=row_patches)
    tokens = apply(model, tower_tokens, batch)
    hidden = apply(model, tower_hidden, batch)
    for kind in reference.KINDS:
      if f'out/{kind}_features' in arrays:
        for values, per, key in (
            (tokens, 4, 'features'), (hidden, 1, 'vision_pre_merger')):
          if f'out/{kind}_{key}' in arrays:
            np.testing.assert_allclose(
                reference.unpacked(values, laid, rows, kind, per),
                arrays[f'out/{kind}_{key}'], atol=FEATURES,
                err_msg=f'{name} {kind} {key}')


def test_unite_positions(models, cases):
  for name, arrays in cases.items():
    batch, _, _ = reference.batch(arrays, models['mrope'])
    real = batch['keys']
    got = batch['positions'].swapaxes(0, 1)
    np.testing.assert_array_equal(
        got[:, real], arrays['out/position_ids_mrope'][:, real], err_msg=name)
    sequential = np.arange(real.shape[1])
    for axis in arrays['out/position_ids_seq']:
      np.testing.assert_array_equal(axis, np.tile(sequential, (len(real), 1)))


@pytest.mark.parametrize('mode, short', [
    ('sequential', 'seq'), ('mrope', 'mrope')])
def test_unite_hidden_states_and_embeddings(models, cases, mode, short):
  model = models[mode]
  for name, arrays in cases.items():
    batch, _, _ = reference.batch(arrays, model)
    x, hidden, embedding = (np.asarray(value) for value in apply(
        model, whole, batch))
    real = batch['keys']
    np.testing.assert_allclose(
        x[real], arrays['out/inputs_embeds'][real], atol=FEATURES,
        err_msg=name)
    np.testing.assert_allclose(
        hidden[real], arrays[f'out/last_hidden_{short}'][real], atol=HIDDEN,
        err_msg=name)
    np.testing.assert_allclose(
        embedding, arrays[f'out/embedding_{short}'], atol=EMBEDDINGS,
        err_msg=name)
    if mode == 'sequential':
      np.testing.assert_allclose(
          embedding, arrays['out/unite_embedding'], atol=EMBEDDINGS,
          err_msg=name)
    pooled = np.asarray(apply(model, logits, model_lib.last(hidden, real)))
    np.testing.assert_allclose(
        pooled, arrays[f'out/logits_last_{short}'], atol=LOGITS, err_msg=name)


def test_unite_hidden_states_of_every_layer_and_all_logits(models, cases):
  """The golden states after each block; the last has its norm applied."""
  model = models['mrope']
  def states(module, batch):
    x, hidden, _ = whole(module, batch)
    return x, hidden
  for name, arrays in cases.items():
    if 'out/hidden_states_mrope' not in arrays:
      continue
    batch, _, _ = reference.batch(arrays, model)
    real, want = batch['keys'], arrays['out/hidden_states_mrope']
    for count in range(len(want)):
      got = np.asarray(
          apply(model, states, batch)[1] if count == len(want) - 1
          else before_norm(model, batch, count))
      np.testing.assert_allclose(got[real], want[count][real], atol=HIDDEN,
                                 err_msg=f'{name} {count}')
    np.testing.assert_allclose(
        np.asarray(apply(model, logits, got))[real],
        arrays['out/logits_mrope'][real], atol=LOGITS, err_msg=name)


def before_norm(model, batch, count):
  """What the first `count` blocks give: a model of that many, no norm."""
  def blocks(module, batch):
    visual = tower_tokens(module, batch) if 'patches' in batch else None
    x = module.embed(batch['tokens'], visual, batch.get('visual_index'))
    length = x.shape[1]
    mask = np.tri(length, dtype=bool)[None] & batch['keys'][:, None]
    return module.decoder.layers(
        x, batch['positions'].swapaxes(0, 1), mask, None, None)[0]
  if count == 0:
    return apply(model, whole, batch)[0]
  config = dataclasses.replace(model.config, decoder=dataclasses.replace(
      model.config.decoder, layers=count))
  params = dict(model.params['params'])
  params['decoder'] = {**params['decoder'], 'layers': jax.tree.map(
      lambda leaf: leaf[:count], params['decoder']['layers'])}
  return jax.jit(functools.partial(config.module().apply, method=blocks))(
      {'params': params}, batch)


def test_unite_padding_on_either_side_gives_one_embedding(models, cases):
  """Rows moved to the front, as we pad: the golden embeddings again."""
  model = models['sequential']
  for name, arrays in cases.items():
    lengths = arrays['in/attention_mask'].sum(1)
    size = arrays['in/input_ids'].shape[1] + 3
    tokens = np.zeros((len(lengths), size), np.int32)
    mask = np.arange(size) < lengths[:, None]
    tokens[mask] = arrays['in/input_ids'][
        arrays['in/attention_mask'].astype(bool)]
    batch, _, _ = reference.batch(arrays, model, tokens, mask)
    del batch['keys']
    got = jax.jit(model.config.module().apply)(
        model.params, {**batch, 'length': lengths.astype(np.int32)})
    np.testing.assert_allclose(
        got, arrays['out/unite_embedding'], atol=EMBEDDINGS, err_msg=name)


@pytest.mark.parametrize('layout', ['newer names', 'several files'])
def test_unite_weights_of_other_layouts_are_the_same(
    unite_golden, models, tmp_path, layout):
  source = unite_golden / 'qwen2vl' / 'model'
  shutil.copy(source / 'config.json', tmp_path / 'config.json')
  tensors = {key: np.asarray(tensor[:]) for key, tensor in
             pretrained.open_checkpoint(source).tensors.items()}
  if layout == 'newer names':
    def renamed(key):
      if key.startswith('visual.'):
        return f'model.{key}'
      return key.replace('model.', 'model.language_model.', 1)
    parts = [{renamed(key): tensor for key, tensor in tensors.items()}]
  else:
    keys = sorted(tensors)
    parts = [{key: tensors[key] for key in keys[::2]},
             {key: tensors[key] for key in keys[1::2]}]
  save(tmp_path, parts)
  model = models['sequential']
  params = qwen2_vl_files.load(
      tmp_path, model.config, sharding.make_mesh(devices=jax.devices()[:1]))
  jax.tree.map(np.testing.assert_array_equal, params, model.params)


def save(directory, parts):
  """Safetensors in one file, or several with their index."""
  if len(parts) == 1:
    safetensors.numpy.save_file(parts[0], directory / 'model.safetensors')
    return
  index = {}
  for number, part in enumerate(parts, 1):
    name = f'model-{number:05}-of-{len(parts):05}.safetensors'
    safetensors.numpy.save_file(part, directory / name)
    index |= dict.fromkeys(part, name)
  (directory / 'model.safetensors.index.json').write_text(
      json.dumps({'weight_map': index}))


def test_unite_weights_are_checked_both_ways(unite_golden, models, tmp_path):
  source = unite_golden / 'qwen2vl' / 'model'
  tensors = {key: np.asarray(tensor[:]) for key, tensor in
             pretrained.open_checkpoint(source).tensors.items()}
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  def load(parts):
    save(tmp_path, [parts])
    qwen2_vl_files.load(tmp_path, models['sequential'].config, mesh)
  key = min(tensors)
  with pytest.raises(ValueError, match='these tensors are missing'):
    load({name: tensors[name] for name in tensors if name != key})
  with pytest.raises(ValueError, match='these tensors fit no parameter'):
    load({**tensors, 'model.more': np.zeros(2, np.float32)})
  damaged = {name: tensor.copy() for name, tensor in tensors.items()}
  damaged[key].ravel()[0] = np.nan
  with pytest.raises(ValueError, match='NaN or infinity in params/'):
    load(damaged)
