"""Damaged examples are left out by files and step alone, never silently."""
import itertools

import numpy as np
import pytest

from jaxret.data import loader, media, redraws
from jaxret.data import mixture as mixture_lib

SIZES = {'a': 17, 'b': 12}
BATCH = 6


class Numbers:
  """Example i holds i; those in `damaged` cannot be read."""

  def __init__(self, damaged=()):
    self.damaged = damaged

  def __len__(self):
    return sum(SIZES.values())

  def __getitem__(self, i):
    if i in self.damaged:
      raise media.MediaError(f'item {i}', 'its video cannot be read')
    return {'x': np.int64(i)}


def batches(damaged, steps, start=0, per_source=False, processes=1,
            reported=None):
  """int64 [steps, BATCH] of what a training draws, and what it reports."""
  mixture = mixture_lib.Mixture({
      name: range(size) for name, size in SIZES.items()})
  order = mixture_lib.MixedOrder(mixture, BATCH, 3, None, per_source)
  reported = [] if reported is None else reported
  parts = [loader.train_batches(
      Numbers(damaged), BATCH, 3, start, p, processes, order=order,
      with_index=True, instead=redraws.Redraws(
          mixture, order, 3, reported.append)) for p in range(processes)]
  rows = [np.concatenate([batch['x'] for batch in step]) for step in
          itertools.islice(zip(*parts), steps)]
  return np.stack(rows)


def plain(steps, per_source=False):
  """The order's own, without the loader."""
  mixture = mixture_lib.Mixture({
      name: range(size) for name, size in SIZES.items()})
  order = mixture_lib.MixedOrder(mixture, BATCH, 3, None, per_source)
  return np.array([[order(step, BATCH, row) for row in range(BATCH)]
                   for step in range(steps)])


@pytest.mark.parametrize('per_source', [False, True])
def test_batches_without_damage_are_those_of_the_order(per_source):
  reported = []
  np.testing.assert_array_equal(
      batches((), 9, per_source=per_source, reported=reported),
      plain(9, per_source))
  assert not reported


@pytest.mark.parametrize('per_source', [False, True])
def test_damaged_rows_alone_are_drawn_anew_from_their_source(per_source):
  damaged, reported = {2, 5, 20}, []
  found = batches(damaged, 12, per_source=per_source, reported=reported)
  wanted = plain(12, per_source)
  bad = np.isin(wanted, list(damaged))
  assert bad.any() and not np.isin(found, list(damaged)).any()
  np.testing.assert_array_equal(found[~bad], wanted[~bad])
  np.testing.assert_array_equal(found[bad] < SIZES['a'],
                                wanted[bad] < SIZES['a'])
  for row, drawn in zip(found, wanted):
    new = np.setdiff1d(row, drawn)  # nothing that its batch has already
    assert len(new) == np.isin(drawn, list(damaged)).sum()
  names = sorted(error.name for error in reported)
  assert names == sorted(f'item {i}' for i in damaged)  # each once


def test_batches_depend_on_the_step_alone():
  damaged = {2, 5, 20}
  whole = batches(damaged, 12)
  np.testing.assert_array_equal(batches(damaged, 7, start=5), whole[5:])
  np.testing.assert_array_equal(batches(damaged, 12, processes=2), whole)


def test_where_nothing_can_be_read_the_run_stops():
  with pytest.raises(ValueError, match=r'item \d+: its video cannot be read; '
                     r'nor can any of the 8 pairs that were drawn in its place'
                     ) as error:
    batches(set(range(29)), 1)
  assert '\n' not in str(error.value)


def test_without_a_redraw_the_error_is_raised():
  with pytest.raises(media.MediaError, match='item 0: its video'):
    next(loader.train_batches(Numbers(range(29)), 6, 3, order=lambda *_: 0))
