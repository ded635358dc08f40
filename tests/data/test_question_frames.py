"""Frames of questions: what they say, what is refused."""
import pytest

from jaxret.data import question_frames

YES_NO = question_frames.FRAMES['yes_no']


def test_the_query_stands_before_the_candidate():
  assert YES_NO.asked('a') == (
      '<Instruct>: Given a search query, retrieve relevant candidates that '
      'answer the query.<Query>:a\n<Document>:')
  assert YES_NO.asked('{instruction}', 'Find {query}') == (
      '<Instruct>: Find {query}<Query>:{instruction}\n<Document>:')


@pytest.mark.parametrize('name', question_frames.FRAMES)
def test_frames_say_which_answers_they_want(name):
  frame = question_frames.checked(name)
  asked = f'{frame.system or ""}{frame.asked("a")}{frame.behind}'
  assert all(word in asked for word in frame.answers)
  assert frame.answers[0] != frame.answers[1]


@pytest.mark.parametrize('frame, said', [
    ('yesno', "frame: got 'yesno', want yes_no, true_false, "),
    (None, 'frame: got None'),
    (YES_NO._replace(before='{instruction}'), 'want {query} once'),
    (YES_NO._replace(before='{query} {query}'), 'want {query} once'),
    (YES_NO._replace(behind=' {query}?'), 'no field in `behind`')])
def test_what_is_no_frame_is_refused(frame, said):
  with pytest.raises(ValueError, match=said) as error:
    question_frames.checked(frame)
  assert '\n' not in str(error.value)
