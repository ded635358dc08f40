"""What benches share: turns that alternate, flags that refuse nonsense."""
import time

import numpy as np
import pytest

from jaxret.bench import machine


def test_runs_take_turns_and_warm_up_does_not_count():
  order = []
  def run(name, seconds):
    order.append(name)
    time.sleep(seconds)
    return np.float32(len(order))
  timed = machine.in_turns({'a': lambda: run('a', 0.02),
                            'b': lambda: run('b', 0.0)}, 3)
  assert order == ['a', 'b'] * 4  # one round warms up
  assert [len(timed[name].all_seconds) for name in 'ab'] == [3, 3]
  assert timed['a'].seconds == sorted(timed['a'].all_seconds)[1] >= 0.02
  assert timed['a'].result == 7 and timed['b'].result == 8  # the last ones


@pytest.mark.slow
def test_the_peak_is_that_of_the_best_repeat():
  shapes = [(64, 64, 64), (64, 128, 32)]
  best = machine.matmul_flops_per_s(shapes, np.float32, repeats=2)
  assert sorted(best) == sorted(shapes)
  # A machine of any kind: more than a megaflop, less than an exaflop.
  assert all(1e6 < speed < 1e18 for speed in best.values())


def test_flags_are_counts(capsys):
  flags = (('rounds', 3, 'timed runs'), ('block', 0, 'rows, 0 = all'))
  found = machine.counts(['--rounds=5'], 'x', flags)
  assert (found.rounds, found.block) == (5, 0)
  for wrong in ('--rounds=0', '--rounds=-2', '--rounds=many'):
    with pytest.raises(SystemExit):
      machine.counts([wrong], 'x', flags)
    assert '--rounds' in capsys.readouterr().err
