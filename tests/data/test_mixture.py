"""Sources mixed in a fixed order."""
import itertools

import numpy as np
import pytest

from jaxret.data import loader
from jaxret.data import mixture as mixture_lib


def mixture(**sizes):
  return mixture_lib.Mixture({name: [f'{name}{i}' for i in range(size)]
                        for name, size in sizes.items()})


def drawn(order, steps, batch_size):
  return np.array([[order(step, batch_size, row) for row in range(batch_size)]
                   for step in steps])


def test_a_mixture_is_its_sources_one_after_the_other():
  mixed = mixture(a=3, b=1, c=2)
  assert [mixed[i] for i in range(len(mixed))] == [
      'a0', 'a1', 'a2', 'b0', 'c0', 'c1']
  assert [mixed.index(i) for i in range(6)] == [0, 0, 0, 1, 2, 2]
  with pytest.raises(ValueError, match="source 'b' is empty"):
    mixture(a=3, b=0)


@pytest.mark.parametrize('per_source', [False, True])
def test_shares_are_exact_and_each_source_is_read_in_epochs(per_source):
  mixed = mixture(a=40, b=24, c=8)
  weights = {'a': 5, 'b': 3, 'c': 2}
  order = mixture_lib.MixedOrder(mixed, 8, 0, weights, per_source)
  n_steps = mixture_lib.ROUND if per_source else mixture_lib.ROUND // 8
  batches = drawn(order, range(n_steps), 8)
  source = np.vectorize(mixed.index)(batches)
  counts = np.bincount(source.ravel(), minlength=3)
  np.testing.assert_allclose(counts / counts.sum(), [.5, .3, .2], atol=.002)
  if per_source:
    assert (source == source[:, :1]).all()
    # A batch never holds an example twice: it spans no two epochs.
    assert all(len(set(batch)) == 8 for batch in batches.tolist())
  else:
    assert (np.diff(np.sort(source, 1), axis=1) > 0).any(1).mean() > 0.9
  seen = np.bincount(batches.ravel(), minlength=len(mixed))
  for number, (start, size) in enumerate(zip(mixed.starts, mixed.sizes)):
    own = seen[start:start + size]
    assert own.max() - own.min() <= 1, number


def test_the_order_depends_on_seed_and_step_alone():
  def make(seed):
    return mixture_lib.MixedOrder(mixture(a=30, b=50), 6, seed)
  straight = drawn(make(1), range(400), 6)
  resumed = drawn(make(1), range(200, 400), 6)
  np.testing.assert_array_equal(straight[200:], resumed)
  back = drawn(make(1), range(399, -1, -1), 6)
  np.testing.assert_array_equal(straight, back[::-1])
  assert (drawn(make(2), range(5), 6) != straight[:5]).any()
  # Without weights every example is as likely as any other.
  seen = np.bincount(straight.ravel(), minlength=80)
  assert seen.min() >= 28 and seen.max() <= 32


def test_a_batch_in_line_has_the_same_media_in_several_sources():
  mixed = mixture(a=40, b=40, c=9)
  weights = {'a': 2, 'b': 1, 'c': 1}
  order = mixture_lib.MixedOrder(mixed, 16, 3, weights, aligned=True)
  batches = drawn(order, range(200), 16)
  source = np.vectorize(mixed.index)(batches)
  medium = batches - mixed.starts[source]
  shared = []
  for kinds, media in zip(source, medium):
    own = [media[kinds == number].tolist() for number in range(3)]
    assert all(len(set(media)) == len(media) for media in own[:2])
    # Both begin at one place of one order: the shorter is the other's start.
    n = min(map(len, own[:2]))
    assert own[0][:n] == own[1][:n]
    shared.append(n)
  assert 3 < np.mean(shared) < 5
  counts = np.bincount(source.ravel(), minlength=3) / source.size
  np.testing.assert_allclose(counts, [.5, .25, .25], atol=.01)
  seen = np.bincount(medium[source == 0], minlength=40)
  assert seen.min() >= 32 and seen.max() <= 48  # 40 times each
  again = mixture_lib.MixedOrder(mixed, 16, 3, weights, aligned=True)
  np.testing.assert_array_equal(  # a resumed run draws the same
      drawn(again, range(100, 200), 16), batches[100:])


def test_the_loader_draws_in_this_order_on_any_number_of_processes():
  mixed = mixture(a=20, b=12)

  class Examples:
    def __len__(self):
      return len(mixed)

    def __getitem__(self, i):
      return {'i': np.int64(i)}

  order = mixture_lib.MixedOrder(mixed, 4, 3, per_source=True)
  def take(count, **arguments):
    batches = loader.train_batches(Examples(), 4, 0, order=order, **arguments)
    return np.array([b['i'] for b in itertools.islice(batches, count)])
  wanted = drawn(order, range(12), 4)
  np.testing.assert_array_equal(take(12), wanted)
  np.testing.assert_array_equal(take(5, start_step=7), wanted[7:])
  halves = [take(12, process_index=i, process_count=2) for i in range(2)]
  np.testing.assert_array_equal(np.concatenate(halves, 1), wanted)


@pytest.mark.parametrize('arguments, message', [
    (dict(weights={'a': 1}), 'for the sources a, b'),
    (dict(weights={'a': 1, 'b': 0}), 'wanted one above 0'),
    (dict(per_source=True), "source 'b' has 2 examples, a batch is 4")])
def test_mixtures_that_cannot_be_drawn(arguments, message):
  with pytest.raises(ValueError, match=message):
    mixture_lib.MixedOrder(mixture(a=9, b=2), 4, 0, **arguments)
  order = mixture_lib.MixedOrder(mixture(a=9, b=2), 4, 0)
  with pytest.raises(ValueError, match='batches of 4, not of 8'):
    order(0, 8, 0)
