"""What the bench counts; a whole one is in tests/methods/blim."""
import argparse
import types

import numpy as np
import pytest

from jaxret import config_files
from jaxret.bench import certified
from jaxret.scoring.likelihood import bounds, cpn, search

SCORES = -np.array([[3.0, 1, 2, 4], [1, 2, 3, 4], [4, 3, 2, 1]])
WHOLE = {'baseline_seconds': 10.0, 'baseline_cpu_seconds': 20.0,
         'baseline_tokens': 1000}


def answered(index, score, certain):
  """A Job whose searches find what is given."""
  found = search.Found(
      np.array(index), np.array(score), np.array(certain),
      np.array([0.5, 0.25, 1.0]), 0.1, bounds.Share(0.2, 0.05), 125, 1000)
  return types.SimpleNamespace(search=lambda *args: found)


def test_lists_that_differ_in_order_are_not_counted_as_the_same():
  job = answered([[1, 2], [1, 0], [3, 2]], [[-1, -2], [-2, -1], [-1, -2.5]],
                 [True, False, True])
  one = certified._one(
      job, 'video_to_text', cpn.Weights(), 2, SCORES, WHOLE)
  assert (one['queries'], one['same_in_order'], one['certified']) == (3, 2, 2)
  assert one['max_abs_difference'] == 1
  assert one['smallest_margin'] == 0.25
  assert one['token_share'] == 0.125
  np.testing.assert_allclose(one['cpu_speedup'] * one['cpu_seconds'], 20)
  np.testing.assert_allclose(one['speedup'] * one['seconds'], 10)


@pytest.mark.parametrize('name,want', [
    ('paper', cpn.Weights(0.9, 0.6)), ('0.1:0.5', cpn.Weights(0.1, 0.5))])
def test_weights_that_nobody_chose_are_not_called_chosen(tmp_path, name, want):
  job = certified.Job.__new__(certified.Job)
  job.config, job.workdir = config_files.load('configs/blim.py'), tmp_path
  assert job.weights(name, 'video_to_text')[:2] == want[:2]
  with pytest.raises(ValueError, match='has not been evaluated'):
    job.weights('chosen', 'video_to_text')


def test_flags():
  options = certified.parse(['--workdir=w', '--k=1,5', '--weights=0.1:0.5'])
  assert options.k == (1, 5) and options.direction == 'video_to_text'
  with pytest.raises(argparse.ArgumentTypeError, match='at least 1'):
    certified.numbers('0')
