"""The plots: one inline SVG each, whose text says what the curves show."""
import re

import numpy as np
import pytest

from jaxret.report import plots


def texts(svg):
  return re.findall(r'<text[^>]*>([^<]*)</text>', svg)


def test_training_counts_a_repeated_step_once():
  records = [{'step': 0, 'loss': 4.0}, {'step': 10, 'loss': 9.0},
             {'step': 10, 'loss': 2.0, 'learning_rate': 0.1}]
  svg = plots.training_plot(records)
  assert 'Training: loss 4 at step 0, 2 at step 10' in svg
  assert 'learning rate' in texts(svg)


def test_hubs_are_named_by_the_words_of_their_rows():
  hubs = plots.Hubness('text_to_video', {
      'plain': np.array([7, 0, 0, 1]), 'with_prior': np.array([2, 2, 2, 2])})
  assert hubs.n_queries == 8
  svg = plots.hubness_plot([hubs], {'plain': 'likelihood',
                                    'with_prior': 'less its prior'}.get)
  assert {'likelihood', 'less its prior', 'text to video'} <= set(texts(svg))
  assert 'with prior: the most frequent candidate is ranked first 2' in svg
  # By hand: mean 2, deviations 5, -2, -2, -1; 108/4 / (34/4) ** 1.5.
  assert hubs.skewness['plain'] == pytest.approx(27 / 8.5 ** 1.5)
  assert hubs.skewness['with_prior'] == 0


def test_sweep_marks_what_was_chosen():
  values = np.linspace(0, 1, 5)
  sweep = plots.Sweep('text_to_video', values, 50 + 10 * values, 0.75)
  svg = plots.sweep_plot(plots.Sweeps(
      'beta', 'beta, a share', 'How much', 'Of it.', (sweep, sweep)))
  assert svg.count('<svg') == 1 and texts(svg).count('text to video') == 2
  assert 'from 50.0 at beta 0.0 to 60.0 at beta 1.0; beta 0.75' in svg
  assert {'chosen on validation', 'beta, a share'} <= set(texts(svg))
  # Neither a test split nor a paper's alpha was given.
  assert not [t for t in texts(svg) if 'test' in t or 'paper' in t]
