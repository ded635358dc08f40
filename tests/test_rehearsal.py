"""How a batch is laid out on a slice, and what a plan's tables say."""
import json
import types

import jax
import jax.numpy as jnp
import numpy as np

from configs import blim as blim_config
from jaxret import input_speed, rehearsal, sharding, tpu_slices


def test_small_batch_leaves_chips_to_tensor():
  config = blim_config.get_config('msrvtt')
  part = tpu_slices.Slice('', tpu_slices.CHIPS['v5e'], tuple(jax.devices()))
  for size, steps, shape, fewer in (
      (64, 4, {'data': 1, 'fsdp': 8, 'tensor': 1}, 4),
      (16, 4, {'data': 1, 'fsdp': 8, 'tensor': 1}, 2),
      (4, 1, {'data': 1, 'fsdp': 4, 'tensor': 2}, 1)):
    config.train.update(batch_size=size, accumulation_steps=steps)
    mesh, accumulation = rehearsal.layout(config, part)
    assert (dict(mesh.shape), accumulation) == (shape, fewer)


def test_an_example_stands_for_a_batch_that_is_split_over_the_chips():
  mesh = sharding.make_mesh({'data': 4, 'fsdp': 2})
  batch = rehearsal.batch_of(
      {'tokens': np.zeros(5, np.int32), 'length': np.int32(3)}, 16, mesh)
  assert (batch['tokens'].shape, batch['tokens'].dtype) == ((16, 5), np.int32)
  assert batch['length'].shape == (16,)
  assert tpu_slices.chip_bytes(batch) == 2 * 5 * 4 + 2 * 4


def test_hours_and_dollars_of_a_job():
  part = tpu_slices.Slice('', tpu_slices.Chip(16, 100.0), (0, 1), price=3.0)
  assert rehearsal.cost(part, {'embedding': 360000.0}, 0.5) == {'embedding': {
      'flops': 360000.0, 'hours': 1.0, 'dollars': 6.0}}


def test_host_cores_are_those_that_read_what_the_chips_take():
  chip = tpu_slices.Chip(16, 100.0)
  part = tpu_slices.Slice('', chip, tuple(range(8)))  # two hosts
  found = rehearsal.cost(part, {'a': 360000.0, 'b': 1.0}, 0.5, {
      'a': input_speed.Input(9000, 0.25)})
  # 9000 items in 900 s, a quarter of a second of a core each.
  assert found['a'] | {'flops': 0, 'hours': 0, 'dollars': 0} == {
      'flops': 0, 'hours': 0, 'dollars': 0, 'items_per_s': 10.0,
      'items_per_s_per_core': 4.0, 'host_cores': 2.5, 'cores_per_host': 1.25}
  assert set(found['b']) == {'flops', 'hours', 'dollars'}


def test_a_batch_that_no_mesh_divides_is_rounded_up():
  config = blim_config.get_config('msrvtt')
  part = tpu_slices.Slice('', tpu_slices.CHIPS['v5e'], tuple(jax.devices()[:6]))
  config.train.update(batch_size=7, accumulation_steps=2)
  mesh, accumulation = rehearsal.layout(config, part)
  assert mesh == sharding.make_mesh(config.mesh.to_dict(), part.devices)
  assert (sharding.batch_shards(mesh), accumulation) == (6, 2)
  assert rehearsal.rows_of(config, mesh) == 12


def test_what_does_not_fit_is_answered_by_a_size_that_does():
  part = tpu_slices.Slice('', tpu_slices.Chip(10, 1.0), ())
  def proposed(held, total, step=1):
    use = tpu_slices.Use(held * tpu_slices.GIB, total * tpu_slices.GIB,
                         total <= 10)
    return rehearsal.proposed(use, part, 'eval.batch_size', 32, step)
  assert proposed(2, 9) == []
  # Half a GiB each: 15 fit beside what is held, of these whole fours.
  assert proposed(2, 18) == ['--config.eval.batch_size=15']
  assert proposed(2, 18, 4) == ['--config.eval.batch_size=12']
  assert 'mesh.fsdp=-1' in proposed(11, 20)[0]
  assert 'mesh.tensor=2' in proposed(9, 99, 4)[0]


def test_control_tokens_have_ids_of_their_own():
  encode = rehearsal.word_tokenizer(9).encode
  assert encode('<|a|> b <|c|>, d\n<|a|>') == [1, 0, 2, 0, 0, 0, 1]
  assert encode('<s><image>\nb</s>') == [3, 4, 0, 0, 5]


def test_a_batch_that_is_too_large_is_cut_into_equal_parts():
  for rows, most, want in ((64, 64, 1), (64, 63, 2), (64, 10, 8), (6, 2, 3),
                           (7, 3, 7), (8, 0, None)):
    assert rehearsal.accumulation_for(rows, most) == want


def test_a_table_says_what_does_not_fit_and_what_would():
  def program(fits, **more):
    return {'gib': dict.fromkeys(('weights', 'state', 'caches', 'inputs',
                                  'temporaries', 'total'), 1.0),
            'fits': fits, 'size': 64, **more}
  table = rehearsal.format_memory([{
      'slice': 'v5e:2x2', 'hbm_gib': 16, 'programs': {
          'embedding': program(True, largest=99),
          'training': program(False, accumulation_steps_that_fit=4),
          'tile': program(False)}}], 'largest')
  lines = table.splitlines()[3:]
  assert [line.split('|')[-3].strip() for line in lines] == [
      'yes', 'NO: accumulate 4 steps', 'NO']


def compiled_on(mesh, function):
  rows = sharding.batch_sharding(mesh)
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.jit(function, in_shardings=(rows, whole), out_shardings=rows
                 ).lower(jax.ShapeDtypeStruct((32, 8), jnp.float32),
                         jax.ShapeDtypeStruct((8, 8), jnp.float32)).compile()


def test_work_is_that_of_all_chips_beside_the_least():
  mesh = sharding.make_mesh({'data': 8})
  model = types.SimpleNamespace(method=types.SimpleNamespace(
      train_flops=lambda batch: 2 * 8 * 8 * len(batch['x'])))
  def work(function):
    return rehearsal.work(model, function and compiled_on(mesh, function),
                          mesh, {'x': np.zeros(8)}, 32)
  least = 32 * 2 * 8 * 8
  assert work(lambda x, w: jnp.tanh(x @ w)) == {
      'minimal_flops': least, 'executed_flops': least}
  assert work(lambda x, w: jnp.tanh(jnp.tanh(x @ w) @ w)) == {
      'minimal_flops': least, 'executed_flops': 2 * least}
  assert work(None) == {}
  # As often as its data say: nobody knows.
  assert work(lambda x, w: jax.lax.while_loop(
      lambda x: x.sum() > 0, lambda x: x @ w, x)) == {}


def test_a_plan_says_what_a_step_executes_and_what_would_fit(
    tmp_path, capsys):
  config = blim_config.get_config('msrvtt')
  program = {'gib': dict.fromkeys(('weights', 'state', 'caches', 'inputs',
                                   'temporaries', 'total'), 1.0),
             'fits': True, 'size': 64}
  found = rehearsal.publish(config, {'embedding': 1.0}, [{
      'slice': 'v5e:4x4', 'hbm_gib': 16, 'chips': 16, 'mesh': {'fsdp': 16},
      'accumulation_steps': 4, 'jobs': {}, 'proposals': ['--config.plan.a=8'],
      'programs': {'tile': program, 'training': program | {
          'minimal_flops': 2e15, 'executed_flops': 2.5e15}}}], tmp_path)
  *_, executed, proposed, _ = capsys.readouterr().out.split('\n')
  assert executed == ('v5e:4x4: training: the compiled step executes 1.25 '
                      'times the minimal FLOPs')
  assert proposed == ('v5e:4x4: what does not fit, or divide, does with '
                      '--config.plan.a=8')
  assert json.loads((tmp_path / 'plan.json').read_text())['slices'] == (
      found['slices'])
