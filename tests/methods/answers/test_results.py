"""Tables and gallery of answers, from scores by hand."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret.data import questions, types
from jaxret.methods.answers import evaluator, results
from tests import tiny_generators
from tests.methods.answers import test_evaluator

SCORED = test_evaluator.SCORED


@pytest.fixture(scope='module')
def found():
  return evaluator.tabulate(SCORED, 0.5, 'validation')


def test_yes_and_no_as_a_table(found):
  rows = {row[0]: row[1:] for row in results._yes_no_table(
      found[0]['yes_no'])['rows']}
  assert rows['likelihood of the choice'] == (
      '50.0', '50.0', '100.0', '66.7', '100.0')
  assert rows['answers by'][-1] == 'yes'


def test_the_gallery_shows_each_questions_own_choices_in_order(found):
  """Questions of three and of two choices stand side by side."""
  item = types.Item('v', image=tiny_generators.pixels(0, 8, 8))
  split = questions.Questions('set', 'test', (item,), SCORED.questions)
  config = ConfigDict({'eval': {'gallery_queries': 4}})
  shown = results._gallery(config, split, SCORED, found[1])
  assert {query.direction for query in shown} == {'colour', 'there'}
  first = next(q for q in shown if q.query.id == 'q0')
  assert first.query.text == 'what' and first.truth.text == 'cyan'
  plain, ours = first.rows['likelihood'], first.rows['cpn']
  assert [one.text for one in plain.top] == ['red', 'cyan', 'blue']
  assert plain.hits == (False, True, False) and plain.rank == 2
  assert [one.text for one in ours.top] == ['cyan', 'red', 'blue']
  assert ours.rank == 1
  for ranked in (plain, ours):
    assert ranked.scores == tuple(sorted(ranked.scores, reverse=True))
    assert len(ranked.scores) == 3
  other = next(q for q in shown if q.query.id == 'q1')
  assert sorted(one.text for one in other.rows['cpn'].top) == ['blue', 'red']


def test_every_question_has_its_rank_in_every_row(found):
  kept = {one.direction: one for one in results._all_queries(SCORED, found[1])}
  assert list(kept) == list(found[0]['tasks'])
  for kind, one in kept.items():
    assert list(one.ranks) == list(found[0][kind]) and one.main == 'cpn'
    for row, ranks in one.ranks.items():
      assert 100 * np.mean(ranks == 1) == found[0][kind][row]['recall_at_1']
  assert (kept['colour'].ids[0], kept['colour'].texts[0]) == ('q0', 'what')
  assert len({one.pool for one in kept.values()}) == len(kept)


def test_descriptions_stand_beside_their_reference():
  items = tuple(types.Item(f'v{i}', image=tiny_generators.pixels(i, 8, 8))
                for i in range(3))
  caption = questions.Question('c', 1, 'Describe.', ('a red dot',), 0)
  split = questions.Questions('set', 'test', items, (caption,))
  config = ConfigDict({'eval': {'captions': 2, 'prompt': 'Describe.'}})
  shown = results._written(config, split, {
      'greedy': ['a', 'b'], 'greedy_cpn': ['c', 'd']}, 0.4)
  assert [one.truth for one in shown] == [None, 'a red dot']
  assert shown[1].texts == {'without CPN': 'b', 'with CPN, alpha 0.4': 'd'}
  assert shown[0].query.frames.shape == (1, 96, 96, 3)
  assert results._written(config, split, {}, 0.4) == []


def test_the_sweep_is_of_validation_and_of_what_is_reported():
  sweeps = results._sweeps({'validation': SCORED, 'test': SCORED}, 0.5)
  panel, = sweeps.panels
  np.testing.assert_array_equal(panel.validation, panel.test)
  assert panel.chosen == 0.5 and panel.validation[5] == 100.0
  assert panel.validation[0] == 50.0
  assert results._sweeps({'test': SCORED}, 0.5) is None
