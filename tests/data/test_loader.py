import itertools
import threading

import numpy as np
import pytest

from jaxret.data import loader


class Squares:
  """Example i holds i and its square."""

  def __init__(self, n):
    self.n = n
    self.threads = set()

  def __len__(self):
    return self.n

  def __getitem__(self, i):
    self.threads.add(threading.get_ident())
    return {'x': np.full((2, 3), i, np.float32), 'y': np.int32(i * i)}


def _take(n, **arguments):
  arguments = {'batch_size': 4, 'seed': 7, 'with_index': True} | arguments
  examples = arguments.pop('examples', Squares(11))
  return list(itertools.islice(
      loader.train_batches(examples, **arguments), n))


def _equal(left, right):
  assert len(left) == len(right)
  for a, b in zip(left, right):
    assert a.keys() == b.keys()
    for key in a:
      assert a[key].dtype == b[key].dtype
      np.testing.assert_array_equal(a[key], b[key])


def test_batches_are_stacked_examples():
  for batch in _take(5):
    assert batch['x'].shape == (4, 2, 3) and batch['x'].dtype == np.float32
    assert batch['index'].dtype == np.int64
    np.testing.assert_array_equal(batch['y'], batch['index'] ** 2)
    np.testing.assert_array_equal(batch['x'][:, 0, 0], batch['index'])


def test_a_device_can_read_batches_where_they_lie():
  for batch in _take(3):
    for array in batch.values():
      assert array.ctypes.data % 64 == 0


def test_rows_of_two_types_are_refused():
  """Written into one array, one of them would lose what it holds."""
  examples = [{'x': np.zeros(2, np.float32)}, {'x': np.zeros(2, np.float64)}]
  with pytest.raises(TypeError, match='cast'):
    _take(1, examples=examples, batch_size=2, with_index=False)


def test_index_is_left_out_unless_asked_for():
  assert _take(1, with_index=False)[0].keys() == {'x', 'y'}


def test_an_epoch_repeats_nothing_and_epochs_differ():
  n_steps = loader.steps_per_epoch(11, 4)
  assert n_steps == 2
  batches = _take(6 * n_steps)
  epochs = [tuple(np.concatenate(
      [b['index'] for b in batches[e * n_steps:(e + 1) * n_steps]]).tolist())
            for e in range(6)]
  assert all(len(set(epoch)) == 8 for epoch in epochs)
  assert len(set(epochs)) == 6
  assert set(itertools.chain(*epochs)) == set(range(11))


def test_seed_decides_the_order():
  _equal(_take(4), _take(4))
  assert any((a['index'] != b['index']).any()
             for a, b in zip(_take(4), _take(4, seed=8)))


@pytest.mark.parametrize('start_step', [1, 2, 3, 7])
def test_resuming_gives_the_same_batches(start_step):
  _equal(_take(4, start_step=start_step), _take(start_step + 4)[start_step:])


@pytest.mark.parametrize('process_count', [2, 4])
def test_processes_hold_blocks_of_the_same_global_batch(process_count):
  shards = [_take(5, process_index=p, process_count=process_count)
            for p in range(process_count)]
  joined = [{key: np.concatenate([shard[key] for shard in step])
             for key in step[0]} for step in zip(*shards)]
  _equal(joined, _take(5))


def test_threads_change_nothing():
  _equal(_take(6, n_threads=0), _take(6, n_threads=5))


def test_examples_are_read_by_several_threads():
  examples = Squares(64)
  _take(16, examples=examples, n_threads=4)
  assert len(examples.threads - {threading.get_ident()}) > 1


@pytest.mark.parametrize('arguments, message', [
    ({'batch_size': 12}, 'batch_size 12 does not fit 11 examples'),
    ({'batch_size': 0}, 'batch_size 0 does not fit 11 examples'),
    ({'process_count': 3}, 'batch_size 4 is not a multiple of the 3 processes'),
])
def test_sizes_that_do_not_fit_are_one_line(arguments, message):
  with pytest.raises(ValueError, match=message) as error:
    _take(1, **arguments)
  assert '\n' not in str(error.value)


def test_errors_of_an_example_reach_the_caller():
  class Broken(Squares):

    def __getitem__(self, i):
      raise ValueError(f'video v{i} is broken')

  with pytest.raises(ValueError, match='video v[0-9]+ is broken'):
    _take(1, examples=Broken(11))
