"""How a generative model is asked whether a candidate answers a query.

A frame is a user's turn with the query before the candidate, so that all
candidates of a query share what is read first, and the two words between which
the model chooses.
"""
from typing import NamedTuple

NOTHING = 'NULL'  # what is said of an item that has nothing
INSTRUCTION = ('Given a search query, retrieve relevant candidates that '
               'answer the query.')
_FIELDS = '{instruction}', '{query}'


class QuestionFrame(NamedTuple):
  """A question.

  before: the user's turn up to the candidate, with {query} once and, at will,
  {instruction}. behind: what the turn says after the candidate. answers: the
  words for a candidate that answers the query and for one that does not, each
  a token. system: the system's turn; None = as the model has it by default.
  """
  before: str
  behind: str
  answers: tuple[str, str]
  system: str | None = None

  def asked(self, query, instruction=None):
    """What is said up to the candidate; query: what is said of it."""
    start, end = (part.replace('{instruction}', instruction or INSTRUCTION)
                  for part in self.before.split('{query}'))
    return f'{start}{query}{end}'


_PAIR = '<Instruct>: {instruction}\n<Query>: {query}\n<Document>: '
_MEETS = ('\nDoes the Document meet the requirements based on the Query and '
          'the Instruct?')
FRAMES = {
    # Letter by letter that of the authors of Qwen3-VL-Reranker (spec §4).
    'yes_no': QuestionFrame(
        '<Instruct>: {instruction}<Query>:{query}\n<Document>:', '',
        ('yes', 'no'),
        'Judge whether the Document meets the requirements based on the Query '
        'and the Instruct provided. Note that the answer can only be "yes" or '
        '"no".'),
    'true_false': QuestionFrame(
        _PAIR, f'{_MEETS} True or False', ('True', 'False')),
    'multiple_choice': QuestionFrame(
        _PAIR, f'{_MEETS}\nA. Yes\nB. No\nAnswer with the letter of the right '
        'choice alone.', ('A', 'B')),
}


def checked(frame: object) -> QuestionFrame:
  """The QuestionFrame of a name, or one that is given; raises ValueError."""
  if isinstance(frame, str) and frame in FRAMES:
    return FRAMES[frame]
  if not isinstance(frame, QuestionFrame):
    raise ValueError(f'frame: got {frame!r}, want {", ".join(FRAMES)}, or a '
                     'data.question_frames.QuestionFrame')
  if frame.before.count('{query}') != 1 or any(
      field in frame.behind for field in _FIELDS):
    raise ValueError(f'frame: got {frame!r}, want {{query}} once in `before`, '
                     'and no field in `behind`')
  return frame
