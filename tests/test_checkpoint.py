"""Checkpoints come back whole, on any mesh, or are refused in one line."""
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import checkpoint, optim, sharding
from tests.test_optim import CONFIG
from tests.tiny_training import init, make_config


def placed(mesh):
  params = init(jax.random.key(0))
  return jax.device_put(params, sharding.shardings(mesh, params))


def abstract(tree, mesh):
  return jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=place),
      tree, sharding.shardings(mesh, tree))


def assert_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  jax.tree.map(np.testing.assert_array_equal, sharding.to_host(got),
               sharding.to_host(want))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Steps 1 to 3 of parameters and optimizer state, the last two kept."""
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  params = placed(mesh)
  state = optim.make_optimizer(CONFIG, lambda step: 1e-3).init(params)
  directory = tmp_path_factory.mktemp('run') / 'checkpoints'
  with checkpoint.Checkpoints(directory, keep=2) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, {
          'trainable': jax.tree.map(lambda leaf, by=step: leaf * by, params),
          'optimizer': state}, {'step': step})
  return directory, params, state


def test_restores_on_another_mesh_what_was_saved(saved):
  directory, params, state = saved
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 4, 'tensor': 2})
  with checkpoint.Checkpoints(directory) as checkpoints:
    assert checkpoints.latest_step() == 3
    assert checkpoints.run(3) == {'step': 3}
    found = checkpoints.restore(3, {
        'trainable': abstract(params, mesh),
        'optimizer': abstract(state, mesh)})
    older = checkpoints.restore(2, {'trainable': params})
  assert_equal(found['trainable'], jax.tree.map(lambda x: x * 3, params))
  assert_equal(found['optimizer'], state)
  assert_equal(older['trainable'], jax.tree.map(lambda x: x * 2, params))
  wanted = sharding.shardings(mesh, params)
  assert jax.tree.map(lambda x: x.sharding, found['trainable']) == wanted
  assert not (directory / '1').exists()


def test_missing_extra_and_misshapen_tensors_are_named(saved):
  directory, params, _ = saved
  flat = sharding.flatten(params)
  path = 'params/visual_head/kernel'
  less = {name: leaf for name, leaf in flat.items() if name != path}
  more = {**flat, 'params/log_temperature': jnp.zeros(())}
  other = {**flat, path: jnp.zeros((8, 4))}
  with checkpoint.Checkpoints(directory, read_only=True) as checkpoints:
    for tree, message in (
        (less, f"has extra tensor '{path}'"),
        (more, "lacks tensor 'params/log_temperature'"),
        (other, r"kernel' as \(\(8, 8\), 'float32'\), wanted \(\(8, 4\)")):
      with pytest.raises(ValueError, match=message) as error:
        checkpoints.restore(3, {'trainable': sharding.unflatten(tree)})
      assert '\n' not in str(error.value)
    with pytest.raises(ValueError, match='3/nothing cannot be read'):
      checkpoints.restore(3, {'nothing': params})


def test_reading_warns_of_nothing_and_leaves_the_directory_alone(
    saved, caplog, recwarn):
  directory, params, _ = saved
  def state():
    return {path: path.stat().st_mtime_ns for path in directory.rglob('*')}
  before = state()
  with caplog.at_level('WARNING'):
    with checkpoint.Checkpoints(directory, read_only=True) as checkpoints:
      checkpoints.restore(3, {'trainable': params})
      assert checkpoints.run(3) == {'step': 3}
  assert not caplog.records and not recwarn.list and state() == before
  with pytest.raises(AssertionError):
    checkpoints.save(4, {'trainable': params}, {})


def test_half_written_checkpoint_does_not_count_and_is_removed(
    saved, tmp_path):
  directory, params, _ = saved
  shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
  partial = tmp_path / '4.orbax-checkpoint-tmp'
  (partial / 'trainable').mkdir(parents=True)
  (partial / 'leftover').write_text('')
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest_step() == 3
    checkpoints.save(4, {'trainable': params}, {})
  assert sorted(path.name for path in tmp_path.iterdir()) == ['2', '3', '4']
  assert not (tmp_path / '4' / 'leftover').exists()


def test_workdir_belongs_to_one_config(tmp_path):
  workdir = tmp_path / 'run'
  checkpoint.claim_workdir(workdir, make_config())
  assert json.loads((workdir / 'config.json').read_text())['seed'] == 3
  free = make_config(log_every_steps=1, checkpoint_every_steps=7)
  checkpoint.claim_workdir(workdir, free)
  assert checkpoint.fingerprint(free) == checkpoint.fingerprint(make_config())
  other = make_config(batch_size=32, epochs=1.0)
  (workdir / 'checkpoints').mkdir()
  with pytest.raises(ValueError, match=(
      r'made by another config: train.batch_size was 16, now 32, '
      r'train.epochs was 3.0, now 1.0; ')) as error:
    checkpoint.claim_workdir(workdir, other)
  assert '\n' not in str(error.value)
  assert checkpoint.fingerprint(other) != checkpoint.fingerprint(free)


def test_config_without_results_is_replaced(tmp_path):
  checkpoint.claim_workdir(tmp_path, {'data': {'root': 'typo'}})
  checkpoint.claim_workdir(tmp_path, {'data': {'root': 'right'}})
  assert json.loads((tmp_path / 'config.json').read_text()) == {
      'data': {'root': 'right'}}


def test_config_with_a_new_or_lost_field_is_another_config(tmp_path):
  (tmp_path / 'scores').mkdir()
  checkpoint.claim_workdir(tmp_path, {'a': {'b': (1, 2)}, 'c': 1})
  checkpoint.claim_workdir(
      tmp_path, {'a': {'b': [1, 2], 'train': {'keep_checkpoints': 1}}, 'c': 1})
  with pytest.raises(ValueError, match=r"d was '\(absent\)', now 2;"):
    checkpoint.claim_workdir(tmp_path, {'a': {'b': (1, 2)}, 'c': 1, 'd': 2})
