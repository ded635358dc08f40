"""Checkpoints come back whole, on any mesh, or are refused in one line."""
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret import checkpoint, main, optim, sharding
from jaxret.methods import embedding_run
from tests.test_optim import CONFIG
from tests.tiny_training import init, make_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
METHODS = ('blim', 'unite', 'mm_embed', 'leccr')


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


def _spoil(path, how, seed):
  """Cuts or removes a file, or flips one bit of it."""
  data = bytearray(path.read_bytes())
  if how == 'cut':
    path.write_bytes(data[:len(data) // 2])
  elif how == 'removed':
    path.unlink()
  elif data:
    data[seed * 7919 % len(data)] ^= 1 << seed % 8
    path.write_bytes(data)


@pytest.mark.parametrize('how', ['bit', *(
    pytest.param(how, marks=pytest.mark.slow)
    for how in ('cut', 'removed', 'bit', 'bit'))])
def test_a_damaged_checkpoint_is_refused_by_name(saved, tmp_path, how, request):
  """Or it gives what was saved, where the damage touched nothing of it."""
  directory, params, _ = saved
  copy = tmp_path / 'checkpoints'
  refused, seed = 0, len(request.node.name) + sum(request.node.name.encode())
  names = sorted(path.relative_to(directory) for path in
                 (directory / '3').rglob('*') if path.is_file())
  for number, name in enumerate(names):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    _spoil(copy / name, how, seed + number)
    try:
      with checkpoint.Checkpoints(copy, read_only=True) as checkpoints:
        if checkpoints.latest_step() != 3:
          continue
        found = checkpoints.restore(3, {'trainable': params})
        assert checkpoints.run(3)['step'] == 3
    except ValueError as error:
      assert str(copy / '3') in str(error) and '\n' not in str(error), name
      refused += 1
      continue
    assert_equal(found['trainable'], jax.tree.map(lambda x: x * 3, params))
  assert refused


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


@pytest.mark.parametrize('name', checkpoint.STARTED)
def test_what_a_start_leaves_is_no_result(tmp_path, name):
  checkpoint.claim_workdir(tmp_path, {'a': 1})
  (tmp_path / name).touch()
  (tmp_path / '.tokenizer-x1y2').mkdir()
  assert not checkpoint.has_results(tmp_path)
  checkpoint.claim_workdir(tmp_path, {'a': 2})


@pytest.mark.parametrize('name', [
    'checkpoints', 'features', 'scores', 'tower', 'stage1', 'plain', 'start',
    'random', 'hard', 'mined', 'reranker', 'captioner', 'descriptions', 'de',
    'adapter', 'embeddings', 'searches', 'metrics.jsonl', 'results.json',
    'submission.mm_embed.json', 'a_stage_to_come'])
def test_all_else_is_a_result(tmp_path, name):
  """LECCR's <language>/, `plain` and others used to be overwritten."""
  checkpoint.claim_workdir(tmp_path, {'a': 1})
  (tmp_path / name).touch()
  checkpoint.claim_workdir(tmp_path, {'a': 1})
  with pytest.raises(ValueError, match='another config: a was 1, now 2'):
    checkpoint.claim_workdir(tmp_path, {'a': 2})


def old_and_new(method):
  """Configs of before the removal of fields, and of today.

  Fields that were set anew since then, retuned.json, have their old values; but
  for `remat`, whose words of today mean what False and True did.
  """
  folder = ROOT / 'tests' / 'old_configs'
  old, retuned = (json.loads((folder / f'{name}.json').read_text())
                  for name in (method, 'retuned'))
  new = main.load_config(f'{ROOT}/configs/{method}.py')
  values = checkpoint.ADDED_FIELDS | checkpoint.plain_config(old)
  new.update_from_flattened_dict(
      {key: values[key] for key in retuned.get(method, ())
       if not key.endswith('.remat')})
  return ConfigDict(old), new


def workdir_of(tmp_path, config):
  """A workdir with results and a config.json as it was written then."""
  (tmp_path / 'results.json').touch()
  (tmp_path / 'config.json').write_text(
      json.dumps(config.to_dict(), indent=2) + '\n')
  return tmp_path


def test_an_added_field_binds_where_it_says_something_new(tmp_path):
  old, new = old_and_new('unite')
  before = checkpoint.fingerprint(new)
  with new.unlocked():
    del new.data['alpha']
  assert checkpoint.fingerprint(new) == before
  new = old_and_new('unite')[1]
  new.data.alpha = 'released'
  assert checkpoint.fingerprint(new) != before
  with pytest.raises(ValueError, match="data.alpha was '.absent.', now 'rel"):
    checkpoint.claim_workdir(workdir_of(tmp_path, old), new)


@pytest.mark.parametrize('method', METHODS)
def test_workdirs_of_before_the_removal_of_fields_are_accepted(
    tmp_path, method):
  old, new = old_and_new(method)
  checkpoint.claim_workdir(workdir_of(tmp_path, old), new)
  written = checkpoint.read_config(tmp_path).to_dict()
  assert written == json.loads(json.dumps(new.to_dict()))
  checkpoint.claim_workdir(tmp_path, new)


@pytest.mark.parametrize('method, key, value', [
    ('blim', 'data.features', 'elsewhere'), ('blim', 'data.limit_s', 3.0),
    ('unite', 'data.train_on_all', True), ('mm_embed', 'data.tidy', True),
    ('leccr', 'data.features', 'elsewhere'), ('unite', 'data.unknown', 1),
    ('leccr', 'data.limit_s', 0.0), ('blim', 'data.pairs', ()),
    ('unite', 'vision.pretrained', '')])
def test_any_other_difference_is_refused(tmp_path, method, key, value):
  old, new = old_and_new(method)
  section, _, field = key.partition('.')
  old[section][field] = value
  with pytest.raises(ValueError, match=f'another config: {key} was '):
    checkpoint.claim_workdir(workdir_of(tmp_path, old), new)


def test_a_removed_field_binds_nothing_whatever_it_was(tmp_path):
  old, new = old_and_new('mm_embed')
  old.data.update(features='elsewhere', limit_s=3.0, train_on_all=True)
  old.plan.videos = 3
  checkpoint.claim_workdir(workdir_of(tmp_path, old), new)


@pytest.mark.parametrize('method', ['unite', 'mm_embed'])
def test_stages_of_before_are_accepted(tmp_path, method):
  old, new = (embedding_run.stages(config, '')
              for config in old_and_new(method))
  assert [stage.row for stage in old] == [stage.row for stage in new]
  for before, now in zip(old, new):
    (tmp_path / now.row).mkdir()
    checkpoint.claim_workdir(
        workdir_of(tmp_path / now.row, before.config), now.config)


def test_towers_of_before_are_accepted(tmp_path):
  old, new = ({**config.tower.to_dict(), 'seed': 0,
               'data': config.data.to_dict(), 'vision': config.vision.to_dict()}
              for config in old_and_new('blim'))
  assert old['vision'] != new['vision']
  checkpoint.claim_workdir(workdir_of(tmp_path, ConfigDict(old)), new)


@pytest.mark.parametrize('old, new, same', [
    (False, 'none', True), (True, 'full', True), (True, 'True', True),
    (False, 'full', False), (True, 'dots', False)])
def test_what_is_computed_again_was_a_bool(tmp_path, old, new, same):
  old, new = ({'model': {'remat': value}} for value in (old, new))
  assert (checkpoint.fingerprint(old) == checkpoint.fingerprint(new)) == same
  workdir = workdir_of(tmp_path, ConfigDict(old))
  if same:
    checkpoint.claim_workdir(workdir, new)
  else:
    with pytest.raises(ValueError, match='model.remat was'):
      checkpoint.claim_workdir(workdir, new)
