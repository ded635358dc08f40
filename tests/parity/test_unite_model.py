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
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.models import names, pretrained
from jaxret.models.qwen2_vl import files as qwen2_vl_files
from jaxret.models.qwen2_vl import model as model_lib
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


@pytest.fixture(scope='module')
def batches(unite_golden, models, cases):
  """{case: (batch, Rows of each item, its Seen)}, all of one shape."""
  size = reference.largest_slice(unite_golden, models['mrope'])
  found = {name: reference.batch(arrays, models['mrope'], row_patches=size)
           for name, arrays in cases.items()}
  alike = reference.alike({name: batch for name, (batch, *_) in found.items()})
  return {name: (alike[name], *found[name][1:]) for name in found}


@functools.cache
def compiled(config, method):
  return jax.jit(functools.partial(config.module().apply, method=method))


def at(values, arrays):
  """The part of padded values that the golden inputs have."""
  rows, length = arrays['in/input_ids'].shape
  return np.asarray(values)[:rows, :length]


def real(arrays):
  return arrays['in/attention_mask'].astype(bool)


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


def check_features(model, arrays, batch, laid, rows, message):
  tokens = apply(model, tower_tokens, batch)
  hidden = apply(model, tower_hidden, batch)
  for kind in reference.KINDS:
    for values, per, key in ((tokens, model.config.vision.merge ** 2,
                              'features'),
                             (hidden, 1, 'vision_pre_merger')):
      if f'out/{kind}_{key}' in arrays:
        np.testing.assert_allclose(
            reference.unpacked(values, laid, rows, kind, per),
            arrays[f'out/{kind}_{key}'], atol=FEATURES,
            err_msg=f'{message} {kind} {key}')


def test_unite_features(models, cases, batches):
  """One slice to a row, with padding in all but the largest."""
  checked = 0
  for name, (batch, laid, rows) in batches.items():
    if laid is not None:
      check_features(models['sequential'], cases[name], batch, laid, rows, name)
      checked += 1
  assert checked


def test_unite_features_of_slices_that_share_a_row(models, cases, batches):
  """Of the case with the most slices in an item, all in one row."""
  def slices(name):
    return [visual_tokens.slices(seen.grids) for seen in batches[name][2]]
  name = max(batches, key=lambda name: max(map(len, slices(name))))
  assert max(map(len, slices(name))) > 1, 'no item of several slices'
  row_patches = max(map(sum, slices(name)))
  batch, laid, rows = reference.batch(
      cases[name], models['sequential'], row_patches=row_patches)
  assert batch['segments'].shape[1] == 1
  check_features(models['sequential'], cases[name], batch, laid, rows, name)


def test_unite_positions(cases, batches):
  for name, arrays in cases.items():
    got = batches[name][0]['positions'].swapaxes(0, 1)
    rows, length = arrays['in/input_ids'].shape
    got = got[:, :rows, :length][:, real(arrays)]
    np.testing.assert_array_equal(
        got, arrays['out/position_ids_mrope'][:, real(arrays)], err_msg=name)
    for axis in arrays['out/position_ids_seq']:
      np.testing.assert_array_equal(
          axis, np.tile(np.arange(length), (rows, 1)))


@pytest.mark.parametrize('mode, short', [
    ('sequential', 'seq'), ('mrope', 'mrope')])
def test_unite_hidden_states_and_embeddings(
    models, cases, batches, mode, short):
  model = models[mode]
  for name, arrays in cases.items():
    x, hidden, embedding = apply(model, whole, batches[name][0])
    rows, kept = len(arrays['in/input_ids']), real(arrays)
    for got, key, atol in ((x, 'inputs_embeds', FEATURES),
                           (hidden, f'last_hidden_{short}', HIDDEN)):
      np.testing.assert_allclose(
          at(got, arrays)[kept], arrays[f'out/{key}'][kept], atol=atol,
          err_msg=f'{name} {key}')
    keys = [f'embedding_{short}']
    keys += ['unite_embedding'] if mode == 'sequential' else []
    for key in keys:
      np.testing.assert_allclose(
          embedding[:rows], arrays[f'out/{key}'], atol=EMBEDDINGS,
          err_msg=f'{name} {key}')
    pooled = model_lib.last(hidden, batches[name][0]['keys'])
    np.testing.assert_allclose(
        apply(model, logits, pooled)[:rows],
        arrays[f'out/logits_last_{short}'], atol=LOGITS, err_msg=name)


def test_unite_hidden_states_of_every_layer_and_all_logits(
    models, cases, batches):
  """The golden states after each block; the last has its norm applied."""
  model, checked = models['mrope'], 0
  for name, arrays in cases.items():
    if 'out/hidden_states_mrope' not in arrays:
      continue
    batch, want = batches[name][0], arrays['out/hidden_states_mrope']
    x, hidden, _ = apply(model, whole, batch)
    kept = real(arrays)
    for count, golden in enumerate(want):
      got = hidden
      if count < len(want) - 1:
        got = x if count == 0 else before_norm(model, count)(x, batch)
      np.testing.assert_allclose(
          at(got, arrays)[kept], golden[kept], atol=HIDDEN,
          err_msg=f'{name} {count}')
    np.testing.assert_allclose(
        at(apply(model, logits, hidden), arrays)[kept],
        arrays['out/logits_mrope'][kept], atol=LOGITS, err_msg=name)
    checked += 1
  assert checked


def before_norm(model, count):
  """What the first `count` blocks give: a model of that many, no norm."""
  config = dataclasses.replace(model.config, decoder=dataclasses.replace(
      model.config.decoder, layers=count))
  params = dict(model.params['params'])
  params['decoder'] = {**params['decoder'], 'layers': jax.tree.map(
      lambda leaf: leaf[:count], params['decoder']['layers'])}
  return lambda x, batch: compiled(config, blocks)(
      {'params': params}, x, batch['keys'], batch['positions'])


def blocks(module, x, keys, positions):
  mask = np.tri(x.shape[1], dtype=bool)[None] & keys[:, None]
  return module.decoder.layers(
      x, positions.swapaxes(0, 1), mask, *[None] * 5)[0]


def test_unite_padding_on_either_side_gives_one_embedding(
    models, cases, batches):
  """Rows moved to the front, as we pad: the golden embeddings again."""
  model = models['sequential']
  for name, arrays in cases.items():
    batch = reference.right_padded(batches[name][0])
    got = compiled(model.config, '__call__')(model.params, batch)
    np.testing.assert_allclose(
        got[:len(arrays['in/input_ids'])], arrays['out/unite_embedding'],
        atol=EMBEDDINGS, err_msg=name)


@pytest.mark.parametrize('layout', ['newer names', 'several files'])
def test_unite_weights_of_other_layouts_are_the_same(
    unite_golden, models, tmp_path, layout):
  source = unite_golden / 'qwen2vl' / 'model'
  shutil.copy(source / 'config.json', tmp_path / 'config.json')
  tensors = {key: np.asarray(tensor[:]) for key, tensor in
             pretrained.open_checkpoint(source).tensors.items()}
  if layout == 'newer names':
    def renamed(key):
      key = names.plain(key)
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
  file = next(tmp_path.glob('*.safetensors'))
  with pytest.raises(ValueError) as error:
    load(damaged)
  assert str(error.value).startswith(f'{file}: {key} holds NaN or infinity')
