"""What a question must be, and what becomes of a set without some items."""
import pytest

from jaxret.data import questions, types


@pytest.mark.parametrize('choices, message', [
    ((), 'no choices'), (('a', 'a'), "'a' is there twice"),
    (('a', ' '), "' ' is no text"), (('a', 3), '3 is no text'),
    ('ab', 'one string')])
def test_choices_that_are_none_are_named(choices, message):
  with pytest.raises(ValueError, match='q7: ') as error:
    questions.Question('q7', 0, 'what', choices)
  assert message in str(error.value)


def test_questions_without_text_and_answers_that_are_no_choice():
  with pytest.raises(ValueError, match='q7: its question is'):
    questions.Question('q7', 0, ' ', ('a',))
  with pytest.raises(ValueError, match='choice 2, wanted 0 to 1'):
    questions.Question('q7', 0, 'what', ('a', 'b'), 2)
  # One that begins another one is allowed.
  questions.Question('q7', 0, 'what', ('a', 'a b'), 1)


def test_items_that_are_left_out_take_their_questions_along():
  def ask(name, item, choices=('a', 'b'), answer=0):
    return questions.Question(name, item, 'what', choices, answer, name[0])
  whole = questions.Questions(
      'set', 'test', tuple(types.Item(f'i{n}', video='v') for n in range(3)),
      (ask('x0', 2), ask('x1', 0), ask('y0', 1), ask('y1', 2),
       ask('z0', 2, ('a',)), ask('z1', 2, answer=None)))
  kept = whole.without(['i1'])
  assert [item.id for item in kept.items] == ['i0', 'i2']
  assert [(q.id, q.item) for q in kept.questions] == [
      ('x0', 1), ('x1', 0), ('y1', 1), ('z0', 1), ('z1', 1)]
  assert [q.id for q in kept.of_kinds('y', 'z')] == ['y1', 'z0', 'z1']
  assert [q.id for q in kept.to_choose()] == ['x0', 'x1', 'y1']
