"""How a batch is laid out on a slice, and what a plan's tables say."""
import jax
import numpy as np

from configs import blim as blim_config
from jaxret import rehearsal, sharding, tpu_slices


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


def test_control_tokens_have_ids_of_their_own():
  encode = rehearsal.word_tokenizer(9).encode
  assert encode('<|a|> b <|c|>, d\n<|a|>') == [1, 0, 2, 0, 0, 0, 1]


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
