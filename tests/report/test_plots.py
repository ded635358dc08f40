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


HUBS = plots.Hubness('text_to_video', {
    'plain': np.array([7, 0, 0, 1]), 'with_prior': np.array([2, 2, 2, 2])})
WORDS = {'plain': 'likelihood', 'with_prior': 'less its prior'}


def test_hubs_are_named_by_the_words_of_their_rows():
  assert HUBS.n_queries == 8
  svg = plots.hubness_plot([HUBS], WORDS.get)
  assert {'likelihood', 'less its prior', 'text to video'} <= set(texts(svg))
  assert 'less its prior: the most frequent candidate is ranked first 2' in svg
  assert 'tenth' not in svg


def test_hubs_are_shown_against_their_prior():
  """Means of tenths by hand: of 20 candidates two each."""
  generator = np.random.default_rng(0)
  prior, counts = generator.normal(size=20), generator.integers(0, 9, 20)
  hubs = plots.Hubness('text_to_video', {
      'plain': counts, 'with_prior': np.ones(20, int)}, prior)
  order = sorted(range(20), key=lambda c: prior[c])
  assert plots._by_prior(prior, counts) == [
      (pytest.approx(np.mean(prior[order[i:i + 2]])),
       np.mean(counts[order[i:i + 2]])) for i in range(0, 20, 2)]
  svg = plots.hubness_plot([hubs, HUBS], WORDS.get)
  least, most = (np.mean(counts[order[i:i + 2]]) for i in (0, 18))
  assert (f'the least likely tenth {least:.2g} times on average, the most '
          f'likely tenth {most:.2g} times') in svg
  assert svg.count('<svg') == 2  # that of no prior is still sorted
  assert 'likelihood, mean' in texts(svg) and 'likelihood' in texts(svg)
  one = plots.Hubness('text_to_video', {'plain': np.array([3])}, np.zeros(1))
  assert plots.hubness_plot([one], WORDS.get).count('<svg') == 1


def test_dots_are_those_of_the_hubs():
  """A page of thousands of candidates stays small."""
  hubs = plots.Hubness('text_to_video', {
      'plain': np.arange(3000), 'with_prior': np.ones(3000, int)},
                       np.zeros(3000))
  assert len(plots.hubness_plot([hubs], WORDS.get)) < 2e5


def test_sweep_marks_what_was_chosen():
  values = np.linspace(0, 1, 5)
  sweep = plots.Sweep('text_to_video', values, 50 + 10 * values, 0.75)
  svg = plots.sweep_plot(plots.Sweeps(
      'beta', 'beta, a share', 'How much', 'Of it.', (sweep, sweep)))
  assert svg.count('<svg') == 2 and texts(svg).count('text to video') == 2
  assert 'from 50.0 at beta 0.0 to 60.0 at beta 1.0; beta 0.75' in svg
  assert {'chosen on validation', 'beta, a share'} <= set(texts(svg))
  # Neither a test split nor a paper's alpha was given.
  assert not [t for t in texts(svg) if 'test' in t or 'paper' in t]


def test_intervals_stand_below_each_other_with_their_seeds():
  shown = plots.interval_plot(
      [plots.Interval('first one', 2.0, 1.0, 3.0, (1.5, 2.5)),
       plots.Interval('second one', -1.0, -2.5, 0.5)], 'points', margin=2.0)
  assert {'first one', 'second one', 'points', 'one seed', 'margin'} <= set(
      texts(shown))
  assert ('aria-label="first one: +2.00, +1.00 to +3.00; second one: -1.00, '
          '-2.50 to +0.50"') in shown
  # Blue is what lies on one side of where it stops to matter.
  assert plots.BLUE in shown and plots.BLUE not in plots.interval_plot(
      [plots.Interval('none', 0.0, -1.0, 1.0)], 'points')
