"""The device bench's scoring: rows of the real matrices, right and counted."""
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import device, device_scoring


def options(*flags):
  return device.parse(['--preset=tiny', '--repeats=1', *flags])


@pytest.mark.slow
def test_a_device_that_is_the_cpu_agrees_with_it(one_device):
  rows = device_scoring.equal(options(), sharding.make_mesh())
  scores, attention = rows[:2], rows[2:]
  assert all(row['largest_difference'] < 1e-5 for row in scores)
  assert [row['name'] for row in attention] == ['bfloat16 attention by xla']
  # Rounded to bfloat16 on the way, and not to anything coarser.
  assert 0 < attention[0]['largest_difference'] < 0.02


@pytest.mark.slow
def test_the_whole_follows_from_some_rows(one_device):
  """Each matrix' time by the share of its rows; priors are whole."""
  rows = device_scoring.rows_of_matrices(
      options('--videos=24', '--texts=20', '--rows=1'), sharding.make_mesh())
  *parts, whole = rows
  shares = [float(row['name'].split(', ')[1].split('%')[0]) / 100
            for row in parts]
  assert shares[0] == pytest.approx(8 / 24, abs=1e-3)  # a block of 8 videos
  assert 0 < shares[1] < 1 and shares[2:] == [1, 1]
  assert whole['seconds'] == pytest.approx(sum(
      row['seconds'] / share for row, share in zip(parts, shares)), rel=1e-2)
  assert whole['flops'] == pytest.approx(sum(
      row['flops'] / share for row, share in zip(parts, shares)), rel=1e-2)
  assert whole['count'] == 24 * 20
  assert all(row['tokens_of_the_fewest'] > 0.7 for row in parts)


def test_only_chosen_rows_are_open():
  matrix = device_scoring._open((4, 3), np.array([1, 3]))
  assert np.isnan(matrix).all(1).tolist() == [False, True, False, True]
  assert not matrix[[0, 2]].any()


@pytest.mark.slow
def test_full_passes_count_their_pairs(one_device):
  row, = device_scoring.full_passes(options(), sharding.make_mesh())
  assert row['count'] == 64 and row['seconds'] > 0
