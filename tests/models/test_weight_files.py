"""Tensors that are written are what `pretrained` reads, by every transform."""
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.models import names, pretrained, weight_files
from jaxret.models.names import Weight

TABLE = (
    Weight('a/copied', 'copied'), Weight('a/kernel', 'turned', 'transpose'),
    Weight('a/patch/kernel', 'patch', 'patch'),
    Weight('a/deep/kernel', 'deep', 'patch'),
    Weight('a/flat/kernel', 'flat', 'flatten'),
    *(Weight(f'a/{part}/kernel', 'fused', part)
      for part in ('query', 'key', 'value')),
    *(Weight(f'a/{part}/bias', 'halves', part)
      for part in ('second_half', 'first_half')),
    Weight('a/layers/kernel', 'layer.{layer}.weight', 'transpose',
           spare_layers=1),
    Weight('unread/ids', 'ids', optional=True))
SHAPES = {'copied': (3,), 'turned': (2, 3), 'patch': (4, 3, 2, 2),
          'deep': (4, 3, 1, 2, 2), 'flat': (4, 3, 2, 2, 2), 'fused': (6, 5),
          'halves': (4,), 'layer.0.weight': (2, 3), 'layer.1.weight': (2, 3),
          'layer.2.weight': (2, 3), 'ids': (1, 2)}


@pytest.fixture
def given():
  random = np.random.default_rng(0)
  return {key: random.normal(size=shape).astype(np.float32)
          for key, shape in SHAPES.items()}


def read(tensors):
  """Parameters of two layers: the third one is spare."""
  whole, _ = pretrained.load(pretrained.Checkpoint('file', {
      key: tensor for key, tensor in tensors.items()
      if key not in ('ids', 'layer.2.weight')}), TABLE)
  return jax.tree.map(np.asarray, whole)


def test_what_is_written_is_what_was_read(given, tmp_path):
  params = read(given)
  made = weight_files.tensors(TABLE, params, SHAPES)
  weight_files.save(tmp_path, made)
  found = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
  assert set(found) == set(SHAPES) - {'ids', 'layer.2.weight'}
  for key, tensor in found.items():
    np.testing.assert_array_equal(tensor, given[key], key)
    assert made[key].shape == tensor.shape, key


def test_names_and_what_is_no_parameter_are_those_of_the_base(given):
  """Here of a model in memory: 'module.' before each name."""
  params = jax.tree.map(lambda leaf: leaf + 1, read(given))
  base = pretrained.Checkpoint('base', {
      f'module.{key}': tensor for key, tensor in given.items()})
  found = weight_files.filled(
      base, TABLE, weight_files.tensors(TABLE, params, SHAPES))
  assert set(found) == {f'module.{key}' for key in SHAPES if key != 'ids'}
  for name, tensor in found.items():
    key = name.removeprefix('module.')
    np.testing.assert_array_equal(
        tensor.make(), given[key] + (key != 'layer.2.weight'), key)


def test_shards_are_listed(given, tmp_path):
  params = read(given)
  made = weight_files.tensors(TABLE, params, SHAPES)
  weight_files.save(tmp_path, made, dtype='bfloat16', shard_bytes=150)
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  assert len(set(index['weight_map'].values())) > 2
  assert index['metadata']['total_size'] == 2 * sum(
      array.size for key, array in given.items()
      if key not in ('ids', 'layer.2.weight'))
  again, _ = pretrained.load(pretrained.open_checkpoint(tmp_path), TABLE)
  for path, leaf in sharding.flatten(again).items():
    np.testing.assert_array_equal(
        leaf, sharding.flatten(params)[path].astype(leaf.dtype), path)


def test_what_has_no_place_is_refused(given):
  params = read(given)
  with pytest.raises(ValueError, match='b/x; want the table of the model'):
    weight_files.tensors(TABLE, {**params, 'b': {'x': np.ones(1)}})
  del params['a']['key']
  with pytest.raises(ValueError, match='fused: got query, value of it, want'):
    weight_files.tensors(TABLE, params, SHAPES)
  with pytest.raises(ValueError, match='flat: got .* does not fill'):
    weight_files.tensors(TABLE, read(given), {**SHAPES, 'flat': (4, 3, 9)})
  base = pretrained.Checkpoint('base', {'copied': given['copied']})
  with pytest.raises(ValueError, match='base: it has no place for deep, '):
    weight_files.filled(base, TABLE, weight_files.tensors(
        TABLE, read(given), SHAPES))


def test_parameters_on_several_devices_are_written_whole(tmp_path):
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 2, 'tensor': 4})
  table = (Weight('decoder/layers/mlp/up/kernel', 'up.{layer}', 'transpose'),)
  whole = np.arange(2 * 4 * 8, dtype=np.float32).reshape(2, 4, 8)
  params = {'decoder': {'layers': {'mlp': {'up': {'kernel': whole}}}}}
  placed = jax.device_put(params, sharding.shardings(
      mesh, {'params': params})['params'])
  weight_files.save(tmp_path, weight_files.tensors(table, placed))
  found = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
  for layer in range(2):
    np.testing.assert_array_equal(found[f'up.{layer}'], whole[layer].T)


def test_a_table_of_the_house_is_covered():
  """Every transform has a way back."""
  kinds = {weight.transform for weight in names.QWEN2_VL}
  assert kinds <= {'copy', 'transpose', *weight_files.CONVOLUTIONS}
