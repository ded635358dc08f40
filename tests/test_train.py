"""The loop: exact steps, the same on any devices, resumed bit for bit."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import optim, sharding, train, training_plan
from jaxret.data import loader
from tests.tiny_training import Examples, init, loss, make_config, make_method

ROOT = pathlib.Path(__file__).resolve().parents[1]


def fit(workdir, n_devices=1, examples=None, method=None, config=None):
  mesh = sharding.make_mesh(devices=jax.devices()[:n_devices])
  params = train.fit(
      method or make_method(), examples or Examples(),
      config or make_config(), workdir, mesh)
  return sharding.flatten(sharding.to_host(params))


def metrics(workdir):
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """(workdir, final parameters) of a run on one device that nothing stopped."""
  workdir = tmp_path_factory.mktemp('undisturbed')
  return workdir, fit(workdir)


def assert_same_bits(got, want):
  assert got.keys() == want.keys()
  for path in want:
    assert np.array_equal(got[path], want[path]), path


def assert_close(got, want, atol=1e-6):
  assert got.keys() == want.keys()
  for path in want:
    np.testing.assert_allclose(got[path], want[path], atol=atol, err_msg=path)


def test_loss_falls_and_frozen_parameters_stay(undisturbed):
  workdir, params = undisturbed
  lines = metrics(workdir)
  assert [line['step'] for line in lines] == [4, 8, 12]
  assert lines[-1]['loss'] < lines[0]['loss'] / 1.5
  assert {'largest', 'gradient_norm', 'learning_rate', 'examples_per_s',
          'tokens_per_s', 'model_flops_per_s'} <= lines[0].keys()
  start = sharding.flatten(sharding.to_host(train.init_params(
      make_method(), 3, sharding.make_mesh(devices=jax.devices()[:1]))))
  changed = {path for path in start
             if not np.array_equal(start[path], params[path])}
  assert changed == set(start) - {'params/video_projection/kernel'}


def test_step_equals_a_plain_loop_over_micro_batches():
  """Two updates of the whole loop by hand: gradients averaged, then AdamW."""
  config, examples = make_config(), Examples()
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  method = make_method()._replace(
      loss=lambda params, constants, batch, key: loss(
          params, constants, batch, None))
  optimizer = optim.make_optimizer(config.optim, lambda step: 0.1)
  start = init(jax.random.key(0))
  batches = loader.train_batches(examples, 16, seed=0)
  batches = [next(batches) for _ in range(2)]

  params = jax.tree.map(jnp.copy, start)
  trainable, frozen = optim.partition(params, method.trainable)
  state = train.init_state(optimizer, trainable, mesh)
  update = train.make_update(method, optimizer, mesh, 0, 4)
  ours = []
  for batch in batches:
    state, seen = update(state, frozen, examples.constants,
                         sharding.global_batch(mesh, batch))
    ours.append(float(seen['loss']))

  trainable, frozen = optim.partition(start, method.trainable)
  moments, theirs = optimizer.init(trainable), []
  table = {'table': jnp.asarray(examples.constants['table'])}
  value_and_grad = jax.jit(jax.value_and_grad(lambda trainable, rows: loss(
      optim.merge(trainable, frozen), table, rows, None)[0].mean()))
  for batch in batches:
    values, gradients = [], []
    for m in range(4):
      rows = {name: array[m::4] for name, array in batch.items()}
      value, gradient = value_and_grad(trainable, rows)
      values.append(value)
      gradients.append(gradient)
    theirs.append(np.mean(values))
    gradient = jax.tree.map(lambda *parts: sum(parts) / 4, *gradients)
    changes, moments = jax.jit(optimizer.update)(gradient, moments, trainable)
    trainable = jax.tree.map(jnp.add, trainable, changes)
  np.testing.assert_allclose(ours, theirs, rtol=1e-6)
  assert_close(sharding.flatten(state.trainable), sharding.flatten(trainable))


def test_eight_devices_give_what_one_gives(undisturbed, tmp_path):
  workdir, params = undisturbed
  assert_close(fit(tmp_path, n_devices=8), params)
  np.testing.assert_allclose(
      [line['loss'] for line in metrics(tmp_path)],
      [line['loss'] for line in metrics(workdir)], rtol=1e-6)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(undisturbed, tmp_path):
  workdir, params = undisturbed
  environment = {**os.environ, 'PYTHON': sys.executable,
                 'JAXRET_MODULE': 'tests.tiny_training',
                 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  subprocess.run(
      [ROOT / 'launch' / 'local.sh', '2', tmp_path / 'run',
       tmp_path / 'result.npz'],
      cwd=ROOT, env=environment, check=True, timeout=300)
  assert_close(dict(np.load(tmp_path / 'result.npz')), params)
  np.testing.assert_allclose(
      [line['loss'] for line in metrics(tmp_path / 'run')],
      [line['loss'] for line in metrics(workdir)], rtol=1e-6)


def run_program(workdir, *flags):
  """The exit status; what the first call compiles is kept for the others."""
  environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': f'{workdir}/cache',
                 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  return subprocess.run(
      [sys.executable, '-m', 'tests.tiny_training', workdir,
       workdir / 'result.npz', *flags],
      cwd=ROOT, env=environment, timeout=300).returncode


@pytest.mark.slow
def test_killed_in_a_save_and_between_saves_resumes_bit_for_bit(
    undisturbed, tmp_path):
  _, params = undisturbed
  kept = tmp_path / 'checkpoints'
  assert run_program(tmp_path, '--kill_during_save=8') == -signal.SIGKILL
  assert any('tmp' in path.name for path in kept.glob('8.*'))
  # Read ahead by at most two batches, so after step 4, before step 12.
  assert run_program(tmp_path, '--kill_at_example=100') == -signal.SIGKILL
  assert not (kept / '12').exists()
  assert run_program(tmp_path) == 0
  assert_same_bits(dict(np.load(tmp_path / 'result.npz')), params)
  assert [line['step'] for line in metrics(tmp_path)] == [4, 8, 12]


def test_told_to_stop_it_saves_and_goes_on_bit_for_bit(undisturbed, tmp_path):
  _, params = undisturbed
  # Each run reads ahead of its steps, so the second stops some steps later.
  for number in (signal.SIGTERM, signal.SIGINT):
    before = signal.getsignal(number)
    examples = Examples()
    examples.on_read = lambda n_reads, number=number: n_reads == 80 and (
        os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt, match='stopped at step .* of 12'):
      fit(tmp_path, examples=examples)
    assert signal.getsignal(number) is before
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 1')  # a line that was being written
  assert_same_bits(fit(tmp_path), params)
  assert [line['step'] for line in metrics(tmp_path)] == [4, 8, 12]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_in_the_last_step_it_stops_as_well(tmp_path, number):
  """What comes after this stage would go on for hours."""
  config, examples = make_config(epochs=0.25), Examples()
  examples.on_read = lambda n_reads: n_reads == 0 and (
      os.kill(os.getpid(), number))
  with pytest.raises(KeyboardInterrupt, match='stopped at step 1 of 1, which'):
    fit(tmp_path, examples=examples, config=config)
  found = fit(tmp_path, config=config)  # which was saved
  assert_same_bits(fit(tmp_path / 'whole', config=config), found)


def test_finished_run_returns_its_parameters(undisturbed):
  workdir, params = undisturbed
  assert_same_bits(fit(workdir), params)
  mesh = sharding.make_mesh()
  trained = train.restore_trained(make_method(), make_config(), workdir, mesh)
  assert_same_bits(sharding.flatten(sharding.to_host(trained)), params)


def test_trainings_of_one_method_share_their_step(undisturbed, tmp_path):
  """Traced once for all that differ in data alone, with the same result."""
  traced, programs = [], {}
  def counted(*args):
    traced.append(1)
    return loss(*args)
  method = make_method()._replace(loss=counted)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  counts = []
  for number, config in enumerate((
      make_config(), make_config(), make_config(epochs=2.0))):
    params = train.fit(method, Examples(), config, tmp_path / str(number),
                       mesh, programs=programs)
    counts.append(len(traced))
    if number < 2:
      assert_same_bits(sharding.flatten(sharding.to_host(params)),
                       undisturbed[1])
  assert counts[0] == counts[1] < counts[2]


def test_an_earlier_checkpoint_can_be_restored(undisturbed, tmp_path):
  workdir, params = undisturbed
  mesh = sharding.make_mesh()
  earlier = train.restore_trained(
      make_method(), make_config(), workdir, mesh, step=8)
  earlier = sharding.flatten(sharding.to_host(earlier))
  kernel = 'params/visual_head/kernel'
  assert not np.array_equal(earlier[kernel], params[kernel])
  # Going on from there for the four steps that are left gives the last.
  shutil.copytree(workdir, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '12')
  last = train.restore_trained(
      make_method(), make_config(), tmp_path / 'run', mesh)
  assert_same_bits(sharding.flatten(sharding.to_host(last)), earlier)
  assert_same_bits(fit(tmp_path / 'run'), params)
  with pytest.raises(ValueError, match=r'holds no step 4, only \[8, 12\]'):
    train.restore_trained(
        make_method(), make_config(), workdir, mesh, step=4)


def test_loss_that_is_not_finite_names_step_and_examples(tmp_path):
  batches = loader.train_batches(Examples(), 16, 3, with_index=True)
  step = 1
  while 37 not in (chosen := next(batches)['index']):
    step += 1
  message = rf'loss nan .* at step {step} on the examples'
  with pytest.raises(ValueError, match=message) as error:
    fit(tmp_path, examples=Examples(nan_at=37))
  ids = str(error.value).split('examples ')[1].split(':')[0].split(', ')
  assert ids == [f'item{i}' for i in sorted(chosen)]
  assert '\n' not in str(error.value)
  saved = tmp_path / 'checkpoints' / str(4 * (step // 4) or 4)
  assert not saved.exists()


@pytest.mark.parametrize('fields, n_examples, message', [
    ({'batch_size': 15}, 64, 'batch_size 15 does not split into 2 micro'),
    ({}, 1, '1 examples to train on do not fill 2 micro-batches over 1 dev'),
])
def test_batch_that_does_not_fit_is_refused(
    tmp_path, fields, n_examples, message):
  with pytest.raises(ValueError, match=message):
    fit(tmp_path / 'run', examples=Examples(n_examples),
        config=make_config(**fields))
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_batch_larger_than_the_data_is_what_they_fill(tmp_path):
  """As if the config had asked for it."""
  few = Examples(15)
  params = fit(tmp_path / 'cut', examples=few,
               config=make_config(batch_size=128, steps=1))
  assert_same_bits(params, fit(
      tmp_path / 'asked', examples=few,
      config=make_config(batch_size=14, steps=1)))


@pytest.mark.parametrize('n_devices, n_examples, size', [
    (1, 64, 16), (1, 15, 14), (4, 15, 8), (4, 16, 16)])
def test_batches_fill_every_device(n_devices, n_examples, size):
  mesh = sharding.make_mesh(devices=jax.devices()[:n_devices])
  plan = training_plan.make_plan(make_config().train, n_examples, mesh)
  assert plan.batch_size == size
  assert plan.steps_per_epoch == n_examples // size


@pytest.mark.parametrize('step, asked, said', [
    (0, 128, ['tiny has 15 examples to train on: batches are of 14, not of '
              'its train.batch_size, 128',
              'training tiny on 15 examples, 3 steps; compiling the first one, '
              'up to a minute']),
    (2, 14, ['training tiny on 15 examples, 1 steps; compiling the first one, '
             'up to a minute']),
    (3, 128, ['already trained: tiny, step 3 of 3'])])
def test_what_is_trained_is_said(caplog, step, asked, said):
  plan = training_plan.Plan(2, 15, 1, 3, 14)
  with caplog.at_level('INFO'):
    train._say('tiny', plan, asked, step)
  assert caplog.messages == said


def test_cut_batches_of_other_devices_are_refused():
  """The order of examples is another: a rerun would not go on."""
  mesh = sharding.make_mesh(devices=jax.devices()[:4])
  plan = training_plan.make_plan(make_config().train, 15, mesh)
  kept = types.SimpleNamespace(
      directory='checkpoints',
      run=lambda step: {'n_examples': 15, 'batch_size': 14})
  with pytest.raises(ValueError, match='batches of 14, the 15 examples fill 8'):
    train._resume(kept, 4, plan, None)


def test_changed_data_or_model_is_refused(undisturbed):
  workdir, _ = undisturbed
  with pytest.raises(ValueError, match='trained on 64 examples.* has 80'):
    fit(workdir, examples=Examples(80))
  with pytest.raises(ValueError, match="lacks tensor '0/mu/params/video_proj"
                                       "|lacks tensor 'params/video_proj"):
    fit(workdir, method=make_method(trainable=('params/.*',)))
  with pytest.raises(ValueError, match='no checkpoints in'):
    train.restore_trained(make_method(), make_config(), workdir / 'nowhere',
                          sharding.make_mesh())
