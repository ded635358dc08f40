"""Results of choices by hand: rows, kinds, yes and no, what is usual."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret.data import questions, types
from jaxret.methods.answers import evaluator
from jaxret.scoring.likelihood import choices

NAN = np.nan


def question(i, kind, own, answer, text='what'):
  return questions.Question(f'q{i}', 0, text, own, answer, kind)


SCORED = evaluator.Scored(
    (question(0, 'colour', ('red', 'blue', 'cyan'), 2),
     question(1, 'colour', ('red', 'blue'), 0),
     question(2, 'there', ('yes', 'no'), 1, 'is it'),
     question(3, 'there', ('yes', 'no'), 0, 'is it')),
    choices.Likelihoods(
        np.array([[-1.0, -5, -2], [-1, -3, NAN], [-1, -1.5, NAN],
                  [-1, -4, NAN]], np.float32),
        np.array([[-1.0, -5, -6], [-1, -4, NAN], [-1, -3, NAN],
                  [-1, -3, NAN]], np.float32)))


def test_rows_by_kind_and_differences():
  """Without the prior 'red' and 'yes' are said; alpha 0.5 mends both."""
  results, table = evaluator.tabulate(SCORED, 0.5, 'validation')
  assert list(results['tasks']) == [evaluator.ALL, 'colour', 'there']
  assert results['tasks']['colour'] == {
      'queries': 2, 'candidates': 5, 'chance': 100 * (1 / 3 + 1 / 2) / 2,
      'list_length': 2.5}
  def accuracy(kind):
    return {row: found['recall_at_1'] for row, found in results[kind].items()}
  assert accuracy('colour') == {'prior': 50.0, 'likelihood': 50.0, 'cpn': 100.0,
                                'cpn_full': 50.0, 'cpn_oracle': 100.0}
  assert accuracy('there')['likelihood'] == 50.0
  assert accuracy('there')['cpn'] == 100.0
  assert accuracy(evaluator.ALL)['cpn'] == 100.0
  first = results['differences'][evaluator.ALL][0]
  assert (first['row'], first['baseline'], first['difference'],
          first['better'], first['worse']) == ('cpn', 'likelihood', 50.0, 2, 0)
  assert results['weights']['colour']['cpn'] == {
      'chosen_on': 'validation', 'alpha': 0.5}
  assert results['yes_no']['likelihood'] == pytest.approx({
      'questions': 2, 'accuracy': 50.0, 'precision': 50.0, 'recall': 100.0,
      'f1': 200 / 3, 'yes_share': 100.0})
  assert results['yes_no']['cpn']['yes_share'] == 50.0
  assert np.isneginf(table['cpn'][1, 2])


def test_alpha_is_chosen_on_validation_alone():
  config = ConfigDict({'eval': {'alpha': 0.3}})
  # Of validation alpha 0 is best: the first question alone needs a prior.
  easy = evaluator.Scored(SCORED.questions[1:2], choices.Likelihoods(
      *(part[1:2] for part in SCORED.likelihoods)))
  assert evaluator.alpha_of(config, {'validation': easy, 'test': SCORED}) == (
      0.0, 'validation')
  alpha, on = evaluator.alpha_of(config, {'validation': SCORED, 'test': easy})
  assert on == 'validation' and 0 < alpha < 1
  # One split cannot be both, wherever it stands.
  assert evaluator.alpha_of(config, {'test': easy, 'validation': SCORED}) == (
      0.3, 'config')
  assert evaluator.alpha_of(config, {'validation': SCORED}) == (0.3, 'config')
  assert evaluator.alpha_of(config, {'test': SCORED}) == (0.3, 'config')


def test_usual_answers_are_those_of_training():
  train = questions.Questions('set', 'train', (types.Item('v', video='v'),), (
      *(question(i, 'colour', ('red', 'blue'), 0) for i in range(3)),
      question(9, 'colour', ('red', 'blue'), 1),
      question(10, 'there', ('yes', 'no'), 0, 'is it')))
  table = evaluator.tabulate(SCORED, 0.5, 'validation')[1]
  found = evaluator.usual_answers(SCORED, table, train)
  assert found == {'right answers': 50.0, 'prior': 100.0, 'likelihood': 100.0,
                   'cpn': 50.0, 'cpn_full': 25.0, 'cpn_oracle': 50.0}
  other = questions.Questions('set', 'train', train.items, (
      question(0, 'x', ('a', 'b'), 0, 'other'),))
  assert evaluator.usual_answers(SCORED, table, other) == {}


@pytest.mark.parametrize('field, value, message', [
    ('alpha', 2.0, 'alpha is 2'), ('plausibility', 0.0, 'plausibility is 0'),
    ('rows', 0, 'eval.rows is 0'), ('max_new_tokens', 0, 'max_new_tokens')])
def test_fields_that_are_none_are_refused(field, value, message):
  section = {'alpha': 0.0, 'plausibility': 0.1, 'rows': 1, 'columns': 1,
             'max_new_tokens': 1}
  with pytest.raises(ValueError, match=message):
    evaluator.check(ConfigDict({'eval': {**section, field: value}}))
