"""What readers see of a claim: numbers in its unit, and where they are from."""
from jaxret.claims import page

ONE = {'says': 'for texts', 'row': 'a/b', 'baseline': 'a/c', 'tasks': ['t'],
       'less': [], 'queries': 40, 'value': 31.04, 'baseline_value': 20.0,
       'effect': 11.04, 'ci95': [5.0, 17.08], 'of_seeds': [10.0, 12.08],
       'verdict': 'holds'}


def claim(**changed):
  return {'id': 'one', 'paper': 'blim', 'claim': 'A is better than B.',
          'for': 'So.', 'against': 'Not so.', 'verdict': 'holds',
          'metric': 'recall_at_1', 'direction': 'higher', 'unit': 'points',
          'margin': 0.0, 'tried': '', 'experiments': ['a'],
          'comparisons': [ONE]} | changed


def results(*claims):
  return {'split': 'test', 'seeds': 2, 'claims': claims, 'verdicts': {
      'holds': len(claims)}}


def test_numbers_have_the_places_of_their_metric():
  assert page.number('recall_at_1', 11.04, signed=True) == '+11.0'
  assert page.number('mrr', 0.12345) == '0.123'
  assert page.interval('mrr', [-0.1, 0.25]) == '-0.100 to +0.250'
  assert page.metric_words('recall_at_5') == 'R@5'
  assert page.metric_words('mrr') == 'MRR'
  assert page.metric_words('prior_percentile') == 'prior percentile'


def test_a_line_for_each_comparison():
  other = ONE | {'says': 'for videos', 'verdict': 'no difference seen'}
  text = page.text(results(claim(), claim(
      id='two', comparisons=[ONE, other], verdict='no difference seen')))
  lines = text.splitlines()
  assert [line.split('  ')[0] for line in lines[-4:]] == [
      'one: A is better than B.', 'two: A is better than B.', '', '']
  assert lines[-4].split()[-5:] == ['+11.0', '+5.0', 'to', '+17.1', 'holds']
  assert lines[-1].endswith('no difference seen')


def test_as_markdown_what_was_tried_is_below_the_table():
  other = ONE | {'says': 'for videos', 'verdict': 'no difference seen'}
  text = page.markdown(results(claim(tried='Longer training.'), claim(
      id='two', comparisons=[ONE, other], verdict='no difference seen')))
  assert text.splitlines()[2:] == [
      '| **BLiM**: A is better than B. | for texts, points | +11.0 | '
      '+5.0 to +17.1 | +10.0, +12.1 | holds |',
      '| **BLiM**: A is better than B. | for texts, points | +11.0 | '
      '+5.0 to +17.1 | +10.0, +12.1 | holds; in all: no difference seen |',
      '|  | for videos, points | +11.0 | +5.0 to +17.1 | +10.0, +12.1 | '
      'no difference seen |', '',
      '- A is better than B. Longer training.']


def test_the_figure_has_an_interval_a_mean_and_seeds():
  shown = page.figure(claim(margin=2.0))
  assert 'for texts: +11.04, +5.00 to +17.08' in shown
  assert 'in favour of the claim, points' in shown
  assert 'one seed' in shown and 'margin' in shown
  assert 'margin' not in page.figure(claim())


def test_claims_are_grouped_by_paper():
  found = page.by_paper(results(claim(), claim(id='two', paper='leccr'),
                                claim(id='three')))
  assert [[one['id'] for one in of] for of in found.values()] == [
      ['one', 'three'], ['two']]
