"""Qwen3-VL: tower, DeepStack, positions, hidden states, generation."""
import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import reader as reader_lib
from jaxret.models import generation, names, pretrained
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen3_vl import files
from tests.parity import qwen3_vl_reference as reference
from tests.parity.test_unite_model import save

# Absolute, float32, as the golden data vouch for.
FEATURES, HIDDEN, LOGITS = 1e-4, 1e-4, 1e-3


@pytest.fixture(scope='module')
def model(qwen3_vl_golden):
  return reference.model(qwen3_vl_golden)


@pytest.fixture(scope='module')
def cases(qwen3_vl_golden, model):
  return reference.cases(qwen3_vl_golden, model.special)


@functools.cache
def compiled(config, method):
  return jax.jit(functools.partial(config.module().apply, method=method))


def apply(model, method, *args):
  return compiled(model.config, method)(model.params, *args)


def tower(module, batch):
  """What the tower gives of the rows of a batch, by the golden names."""
  def rows(x):
    return x.reshape(-1, *x.shape[2:])
  patches, segments, coordinates = (
      rows(batch[name]) for name in ('patches', 'segments', 'coordinates'))
  vision = module.vision
  hidden, kept = vision.hidden(patches, segments, coordinates)
  tokens, levels = vision(patches, segments, coordinates)
  table = vision.embed(0 * patches, coordinates) - vision.patch(0 * patches)
  def items(x):
    return x.reshape(len(batch['patches']), -1, x.shape[-1])
  return {'position_table': (items(table), 1),
          'vision_pre_merger': (items(hidden), 1),
          'features': (items(tokens), 4),
          'deepstack': (jnp.stack([items(level) for level in levels], 2), 4)}


def whole(module, batch):
  """(input embeddings, hidden states) of a batch."""
  x, visual = module.read(batch)
  keys = jnp.arange(x.shape[1]) < batch['length'][:, None]
  return x, module.hidden(x, keys, batch['positions'], visual)


def logits(module, hidden):
  return sum(left @ right for left, right in module.vocabulary_terms(hidden))


def test_qwen3_vl_special_tokens(qwen3_vl_golden, model):
  wanted = reference.table(qwen3_vl_golden, 'cases.json')['special_tokens']
  assert model.special == {name: wanted[name] for name in (
      'image', 'video', 'vision_start', 'vision_end')}


def test_qwen3_vl_configs_of_both_styles_say_the_same(
    qwen3_vl_golden, model, tmp_path):
  shutil.copy(qwen3_vl_golden / 'config_hub.json', tmp_path / 'config.json')
  found = files.read_config(tmp_path)
  assert (found.config, found.special) == (model.config, model.special)


def test_qwen3_vl_sizes_are_those_of_the_golden_model(qwen3_vl_golden, model):
  spec = reference.table(qwen3_vl_golden, 'cases.json')['spec']
  decoder, vision = model.config.decoder, model.config.vision
  assert decoder.rope_sections == tuple(spec['mrope'])
  assert (decoder.width, decoder.layers, decoder.norm_eps, decoder.rope_theta,
          decoder.tie_embeddings, decoder.head_width) == (
      spec['hidden'], spec['layers'], spec['eps'], spec['theta'], spec['tie'],
      spec['head_dim'])
  assert (vision.width, vision.layers, vision.mlp_width, vision.positions,
          vision.deepstack) == (
      spec['vdim'], spec['vdepth'], spec['vinter'], spec['npos'],
      tuple(spec['deep']))
  head = 'lm_head' in model.params['params']['decoder']
  assert head != spec['tie']


def test_qwen3_vl_tower_and_deepstack(model, cases):
  checked = set()
  for name, case in cases.items():
    found = apply(model, tower, case.batch)
    for kind in reference.KINDS:
      for key, (values, per) in found.items():
        want = case.arrays.get(f'out/{kind}_{key}')
        if want is not None:
          rows, places = reference.placed(case, kind, per)
          got = np.asarray(values)[rows, places]
          np.testing.assert_allclose(
              got, want.swapaxes(0, 1) if key == 'deepstack' else want,
              atol=FEATURES, err_msg=f'{name} {kind} {key}')
          checked.add((kind, key))
  assert len(checked) == 8


def test_qwen3_vl_full_attention_within_each_slice(cases):
  """Ends of the golden segments: one for each temporal slice."""
  for case in cases.values():
    for kind in reference.KINDS:
      if f'out/{kind}_cu_seqlens' in case.arrays:
        sizes = [int(np.prod(grid)) for row in case.rows
                 for its, grid in zip(row.kinds, row.grids) if its == kind]
        np.testing.assert_array_equal(
            np.cumsum([0, *sizes]), case.arrays[f'out/{kind}_cu_seqlens'])


def test_qwen3_vl_positions(cases):
  for name, case in cases.items():
    got = reference.unpadded(case.batch['positions'].swapaxes(1, 2), case.keys)
    np.testing.assert_array_equal(
        got.T, case.arrays['out/position_ids_mrope'][:, case.keys],
        err_msg=name)


def test_qwen3_vl_hidden_states_and_logits(model, cases):
  for name, case in cases.items():
    x, hidden = apply(model, whole, case.batch)
    for got, key, atol in ((x, 'inputs_embeds', FEATURES),
                           (hidden, 'last_hidden', HIDDEN)):
      np.testing.assert_allclose(
          reference.unpadded(got, case.keys), case.arrays[f'out/{key}'][
              case.keys], atol=atol, err_msg=f'{name} {key}')
    keys = np.arange(x.shape[1]) < case.batch['length'][:, None]
    np.testing.assert_allclose(
        apply(model, logits, qwen2_vl.last(hidden, keys))[:len(case.rows)],
        case.arrays['out/logits_last'], atol=LOGITS, err_msg=name)


@pytest.mark.slow
def test_qwen3_vl_hidden_states_of_every_layer_and_all_logits(model, cases):
  """Entry k is what layer k is given, with the features of level k - 1."""
  checked = 0
  for name, case in cases.items():
    want = case.arrays.get('out/hidden_states')
    if want is None:
      continue
    x, hidden = apply(model, whole, case.batch)
    for count, golden in enumerate(want):
      got = hidden
      if count < len(want) - 1:
        got = x if count == 0 else before_norm(model, count)(case.batch)
      np.testing.assert_allclose(
          reference.unpadded(got, case.keys), golden[case.keys], atol=HIDDEN,
          err_msg=f'{name} {count}')
    if 'out/logits' in case.arrays:
      np.testing.assert_allclose(
          reference.unpadded(apply(model, logits, hidden), case.keys),
          case.arrays['out/logits'][case.keys], atol=LOGITS, err_msg=name)
      checked += 1
  assert checked


def before_norm(model, count):
  """What the first `count` layers give, of a model that has no more."""
  c = model.config
  config = dataclasses.replace(
      c, decoder=dataclasses.replace(c.decoder, layers=count),
      vision=dataclasses.replace(
          c.vision, deepstack=c.vision.deepstack[:count]))
  params = dict(model.params['params'])
  params['decoder'] = {**params['decoder'], 'layers': jax.tree.map(
      lambda leaf: leaf[:count], params['decoder']['layers'])}
  if count < len(c.vision.deepstack):
    params['vision'] = {**params['vision'], 'deepstack': jax.tree.map(
        lambda leaf: leaf[:count], params['vision']['deepstack'])}
  return lambda batch: compiled(config, blocks)({'params': params}, batch)


def blocks(module, batch):
  x, visual = module.read(batch)
  length = x.shape[1]
  keys = jnp.arange(length) < batch['length'][:, None]
  deep = (None, None) if visual is None else (
      jnp.arange(module.config.decoder.layers), visual)
  return module.decoder.layers(
      x, batch['positions'].swapaxes(0, 1),
      jnp.tri(length, dtype=bool)[None] & keys[:, None], None, None, None,
      *deep)[0]


def test_qwen3_vl_greedy_generation(qwen3_vl_golden, model, cases):
  count = reference.table(qwen3_vl_golden, 'cases.json')['generate'][
      'new_tokens']
  checked = 0
  for name, case in cases.items():
    if 'out/generated' in case.arrays:
      written = generation.greedy(
          model.config.module(), count, (), model.params, case.batch)
      np.testing.assert_array_equal(
          written.tokens[:len(case.rows)], case.arrays['out/generated'],
          err_msg=name)
      checked += 1
  assert checked


def test_qwen3_vl_generated_logits_and_positions(model, cases):
  """One step behind the prefix' cache, at the golden position."""
  checked = 0
  for name, case in cases.items():
    if 'out/generated' not in case.arrays:
      continue
    hidden, cache, position = apply(model, 'start', case.batch)
    count = len(case.rows)
    for step, key in ((0, None), (1, 'step')):
      if key:
        np.testing.assert_array_equal(
            position[:count], case.arrays['out/generated_positions'][:, 0])
        room = [(0, 0), (0, 0), (0, 1), (0, 0), (0, 0)]
        length = cache.mask.shape[1]
        cache = cache._replace(
            key=jnp.pad(cache.key, room), value=jnp.pad(cache.value, room),
            mask=jnp.pad(cache.mask, ((0, 0), (0, 1))))
        first = np.zeros(len(position), np.int32)
        first[:count] = case.arrays['out/generated'][:, 0]
        hidden, cache = apply(model, 'step', cache, first, position, length)
      np.testing.assert_allclose(
          apply(model, logits, hidden)[:count],
          case.arrays['out/generated_logits'][:, step], atol=LOGITS,
          err_msg=name)
    checked += 1
  assert checked


@pytest.mark.parametrize('layout', ['bare', 'several files'])
def test_qwen3_vl_weights_of_other_layouts_are_the_same(
    qwen3_vl_golden, model, tmp_path, layout):
  source = qwen3_vl_golden / 'model'
  shutil.copy(source / 'config.json', tmp_path / 'config.json')
  tensors = {key: np.asarray(tensor[:]) for key, tensor in
             pretrained.open_checkpoint(source).tensors.items()}
  if layout == 'bare':
    parts = [{key.removeprefix('model.'): tensor
              for key, tensor in tensors.items()}]
  else:
    keys = sorted(tensors)
    parts = [{key: tensors[key] for key in keys[::2]},
             {key: tensors[key] for key in keys[1::2]}]
  save(tmp_path, parts)
  params = files.load(
      tmp_path, model.config, sharding.make_mesh(devices=jax.devices()[:1]))
  jax.tree.map(np.testing.assert_array_equal, params, model.params)


def test_qwen3_vl_weights_are_checked_both_ways(
    qwen3_vl_golden, model, tmp_path):
  tensors = {key: np.asarray(tensor[:]) for key, tensor in
             pretrained.open_checkpoint(qwen3_vl_golden / 'model'
                                        ).tensors.items()}
  assert len(tensors) == tensors_of(model)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  def load(parts):
    save(tmp_path, [parts])
    files.load(tmp_path, model.config, mesh)
  for key in (min(tensors), 'model.visual.deepstack_merger_list.0.norm.bias',
              'model.language_model.layers.0.self_attn.q_norm.weight'):
    with pytest.raises(ValueError, match='these tensors are missing'):
      load({name: tensors[name] for name in tensors if name != key})
  bias = 'model.language_model.layers.0.self_attn.q_proj.bias'
  with pytest.raises(ValueError, match='these tensors fit no parameter'):
    load({**tensors, bias: np.zeros(2, np.float32)})


def tensors_of(model):
  """How many tensors fill the parameters."""
  flat = sharding.flatten(model.params['params'])
  return sum(flat[weight.path].shape[0] if '{layer}' in weight.key else 1
             for weight in names.QWEN3_VL if weight.path in flat)


@pytest.mark.slow
@pytest.mark.parametrize('change', ['deepstack', 'interleaved', 'qk norm'])
def test_qwen3_vl_parts_change_the_numbers(model, cases, change):
  """What is easily left out is seen by the tests above."""
  case = next(case for case in cases.values() if any(
      row.grids for row in case.rows))
  _, want = apply(model, whole, case.batch)
  c, params = model.config, dict(model.params['params'])
  if change == 'deepstack':
    params['vision'] = {**params['vision'], 'deepstack': jax.tree.map(
        jnp.zeros_like, params['vision']['deepstack'])}
  elif change == 'interleaved':
    c = dataclasses.replace(c, decoder=dataclasses.replace(
        c.decoder, rope_interleaved=False))
  else:
    attention = params['decoder']['layers']['attention']
    params['decoder'] = {**params['decoder'], 'layers': {
        **params['decoder']['layers'], 'attention': {
            **attention, 'q_norm': jax.tree.map(
                jnp.ones_like, attention['q_norm'])}}}
  _, got = compiled(c, whole)({'params': params}, case.batch)
  difference = np.abs(reference.unpadded(got - want, case.keys))
  assert difference.max() > 100 * HIDDEN


def test_qwen3_vl_rows_are_independent(model, cases):
  """Alone at its own shape, a row is what it is in a batch."""
  case = max(cases.values(), key=lambda case: len(case.rows))
  _, hidden = apply(model, whole, case.batch)
  row = max(case.rows, key=lambda row: len(row.grids))
  shape = inputs_lib.shape_of(len(row.tokens), row.grids)
  _, alone = apply(model, whole, reader_lib.pad([row], shape, model.special))
  index, count = [one is row for one in case.rows].index(True), len(row.tokens)
  np.testing.assert_allclose(
      alone[0, :count], hidden[index, :count], atol=HIDDEN / 10)


def test_qwen3_vl_golden_files_are_whole(qwen3_vl_golden):
  listed = json.loads((qwen3_vl_golden / 'README.json').read_text())['files']
  for name, entry in listed.items():
    assert (qwen3_vl_golden / name).stat().st_size == entry['bytes'], name
