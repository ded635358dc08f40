"""Qwen2.5-VL: its tower, positions, hidden states, logits, what it writes."""
import dataclasses
import functools
import shutil

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.models import generation
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen25_vl import files, vision
from tests.parity import qwen25_vl_reference as reference
from tests.parity import unite_reference as shared

# Absolute, float32, as the golden data vouch for.
FEATURES, HIDDEN, LOGITS, EMBEDDINGS = 1e-4, 1e-4, 1e-3, 5e-6


@pytest.fixture(scope='module')
def model(qwen25_vl_golden):
  return reference.model(qwen25_vl_golden)


@pytest.fixture(scope='module')
def cases(qwen25_vl_golden, model):
  return reference.cases(qwen25_vl_golden, model)


@pytest.fixture(scope='module')
def found(model, cases):
  return {name: reference.apply(model, reference.outputs, case.batch)
          for name, case in cases.items()}


def test_qwen25_vl_config_says_the_same_flat_and_nested(
    qwen25_vl_golden, model, tmp_path):
  shutil.copy(qwen25_vl_golden / 'config_hub_flat.json',
              tmp_path / 'config.json')
  flat = files.read_config(tmp_path, 'mrope')
  assert flat.config == model.config and flat.special == model.special


def test_qwen25_vl_sizes_are_those_of_the_golden_model(
    qwen25_vl_golden, model):
  told = shared.table(qwen25_vl_golden, 'cases.json')
  spec, special = told['spec'], told['special_tokens']
  decoder, tower = model.config.decoder, model.config.vision
  assert (decoder.width, decoder.mlp_width, decoder.layers, decoder.heads,
          decoder.kv_heads, decoder.norm_eps, decoder.rope_theta,
          decoder.tie_embeddings, decoder.rope_sections) == (
      *(spec[key] for key in ('hidden', 'inter', 'layers', 'heads', 'kv', 'eps',
                              'theta', 'tie')), tuple(spec['mrope']))
  assert (tower.layers, tower.width, tower.heads, tower.mlp_width,
          tower.full_blocks, tower.window_px, tower.tokens_per_second) == (
      *(spec[key] for key in ('vdepth', 'vdim', 'vheads', 'vinter')),
      tuple(spec['full']), spec['window'], spec['tps'])
  assert model.special == {
      'image': special['image'], 'video': special['video'],
      'vision_start': special['vision_start'],
      'vision_end': special['vision_end']}


def test_qwen25_vl_features(model, cases, found):
  checked = 0
  for name, case in cases.items():
    for kind in shared.KINDS:
      for key, values, per in (
          ('features', 'tokens', model.config.vision.merge ** 2),
          ('vision_pre_merger', 'before', 1)):
        if f'out/{kind}_{key}' in case.arrays:
          got = shared.unpacked(
              found[name][values], case.laid, case.rows, kind, per)
          np.testing.assert_allclose(
              got, case.arrays[f'out/{kind}_{key}'], atol=FEATURES,
              err_msg=f'{name} {kind} {key}')
          checked += 1
  assert checked


def test_qwen25_vl_windows_are_those_of_the_reference(model, cases):
  """Their sizes in order, and the order of tokens in them."""
  tower, checked = model.config.vision, 0
  for name, case in cases.items():
    for kind in shared.KINDS:
      if f'out/{kind}_cu_window_seqlens' not in case.arrays:
        continue
      ends, offset, order = [], 0, []
      grids = case.arrays[shared.KINDS[kind][1]]
      for grid in grids:
        rows = shared.visual_tokens.lay_out(
            [grid], 1, int(np.prod(grid)), window=tower.window_tokens)
        windows = np.asarray(vision.windows(
            rows.segments, rows.coordinates,
            tower.window_tokens * tower.merge))[0]
        sizes = np.unique(windows, return_counts=True)[1]
        ends += list(sum(sizes[:i + 1]) + 4 * offset
                     for i in range(len(sizes)))
        tokens = rows.patch_index[::4] // 4
        order += list(np.argsort(tokens) + offset)
        offset += len(tokens)
      np.testing.assert_array_equal(
          [0, *ends], case.arrays[f'out/{kind}_cu_window_seqlens'], name)
      np.testing.assert_array_equal(
          order, case.arrays[f'out/{kind}_window_index'], name)
      checked += 1
  assert checked


def test_qwen25_vl_positions(cases):
  for name, case in cases.items():
    got = case.at(case.batch['positions'].swapaxes(1, 2)).transpose(2, 0, 1)
    np.testing.assert_array_equal(
        got[:, case.real],
        case.arrays['out/position_ids_mrope'][:, case.real], name)


def test_qwen25_vl_hidden_states_logits_and_embeddings(cases, found):
  for name, case in cases.items():
    its = {key: case.at(values) for key, values in found[name].items()}
    for key, golden, atol in (('x', 'inputs_embeds', FEATURES),
                              ('hidden', 'last_hidden', HIDDEN),
                              ('logits', 'logits', LOGITS)):
      if f'out/{golden}' in case.arrays:
        np.testing.assert_allclose(
            its[key][case.real], case.arrays[f'out/{golden}'][case.real],
            atol=atol, err_msg=f'{name} {golden}')
    last = case.real.shape[1] - 1 - np.argmax(case.real[:, ::-1], 1)
    rows = np.arange(len(last))
    np.testing.assert_allclose(
        its['logits'][rows, last], case.arrays['out/logits_last'],
        atol=LOGITS, err_msg=name)
    np.testing.assert_allclose(
        found[name]['embedding'][:len(rows)], model_lib.unit(
            case.arrays['out/last_hidden'][rows, last]),
        atol=EMBEDDINGS, err_msg=name)


def test_qwen25_vl_hidden_states_of_every_layer(model, cases, found):
  """The golden states before each block; the last has its norm applied."""
  checked = 0
  for name, case in cases.items():
    if 'out/hidden_states' not in case.arrays:
      continue
    *before, last = case.arrays['out/hidden_states']
    for count, golden in enumerate(before):
      got = found[name]['x']
      if count:
        got = first_blocks(model, count)(got, case.batch)
      np.testing.assert_allclose(
          case.at(got)[case.real], golden[case.real], atol=HIDDEN,
          err_msg=f'{name} {count}')
    np.testing.assert_allclose(
        case.at(found[name]['hidden'])[case.real], last[case.real],
        atol=HIDDEN, err_msg=name)
    checked += 1
  assert checked


def first_blocks(model, count):
  """What the first `count` blocks give: a model of that many, no norm."""
  config = dataclasses.replace(model.config, decoder=dataclasses.replace(
      model.config.decoder, layers=count))
  params = dict(model.params['params'])
  params['decoder'] = {**params['decoder'], 'layers': jax.tree.map(
      lambda leaf: leaf[:count], params['decoder']['layers'])}
  return lambda x, batch: reference.compiled(config, reference.blocks)(
      {'params': params}, x, batch['keys'], batch['positions'])


@pytest.mark.slow
def test_qwen25_vl_generation(model, cases):
  checked = 0
  for name, case in cases.items():
    if 'out/generated' not in case.arrays:
      continue
    want = case.arrays['out/generated']
    batch = reference.right_padded(case.batch)
    got = generation.greedy(
        model.config.module(), want.shape[1], (), model.params, batch)
    np.testing.assert_array_equal(got.tokens[:len(want)], want, name)
    # What is written stands behind all positions of the prompt.
    position = reference.apply(model, 'start', batch)[2]
    np.testing.assert_array_equal(
        position[:len(want), None] + np.arange(want.shape[1]),
        case.arrays['out/generated_positions'], name)
    checked += 1
  assert checked


def test_qwen25_vl_padding_on_either_side_gives_one_embedding(
    model, cases, found):
  for name, case in cases.items():
    got = reference.apply(
        model, '__call__', reference.right_padded(case.batch))
    np.testing.assert_allclose(
        got[:len(case.rows)], found[name]['embedding'][:len(case.rows)],
        atol=EMBEDDINGS, err_msg=name)


@pytest.mark.slow
def test_qwen25_vl_long_videos_go_through_the_tower_in_parts(
    model, cases, monkeypatch):
  """With room for one row at a time the tokens are the same."""
  layout = reader_lib.layout_of(model.config)
  batches = [shared.batch(case.arrays, model, layout=layout)[0]
             for case in cases.values()]
  batch = max((batch for batch in batches if 'segments' in batch),
              key=lambda batch: batch['segments'].shape[1])
  seen = batch['patches'], batch['segments'], batch['coordinates']
  assert seen[1].shape[1] > 1, 'no item of several rows'
  def tokens():
    return jax.jit(functools.partial(
        model.config.module().apply, method='visual_tokens'))(
            model.params, *seen)
  want = tokens()
  monkeypatch.setattr(model_lib, 'PATCHES_AT_ONCE', seen[1].shape[2])
  np.testing.assert_allclose(tokens(), want, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [{'fsdp': 8}, {'tensor': 2, 'data': 4}])
def test_qwen25_vl_embeddings_on_eight_devices(model, cases, found, shape):
  mesh = sharding.make_mesh(shape)
  params = jax.device_put(model.params, sharding.shardings(mesh, model.params))
  name = max(cases, key=lambda name: len(cases[name].rows))
  batch = reference.right_padded(cases[name].batch)
  rows = len(batch['tokens'])
  batch = jax.tree.map(
      lambda leaf: np.resize(leaf, (-(-rows // 8) * 8, *leaf.shape[1:])), batch)
  with jax.set_mesh(mesh):
    got = reference.compiled(model.config, '__call__')(
        params, sharding.global_batch(mesh, batch))
  np.testing.assert_allclose(
      sharding.to_host(got)[:rows], found[name]['embedding'],
      atol=EMBEDDINGS)
