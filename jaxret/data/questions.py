"""Multiple-choice questions about items: what is asked, and the answers."""
import dataclasses
from collections.abc import Sequence

from jaxret.data import types

YES_NO = ('yes', 'no')


@dataclasses.dataclass(frozen=True)
class Question:
  """A question about one item.

  item: index of the item. choices: texts, all different; one alone is an
  answer to learn or to compare with, such as a caption, and no choice. answer:
  index of the right one, None = not known. kind: of the question, results are
  by it.
  Errors: ValueError that names the question for what cannot be asked.
  """
  id: str
  item: int
  text: str
  choices: tuple[str, ...]
  answer: int | None = None
  kind: str = ''

  def __post_init__(self) -> None:
    if not isinstance(self.text, str) or not self.text.strip():
      raise ValueError(f'{self.id}: its question is {self.text!r}; wanted a '
                       'text of a word at least')
    check_choices(self.id, self.choices)
    if self.answer is not None and not 0 <= self.answer < len(self.choices):
      raise ValueError(
          f'{self.id}: its answer is choice {self.answer}, wanted 0 to '
          f'{len(self.choices) - 1}')


@dataclasses.dataclass(frozen=True)
class Questions:
  """One split of a data set of questions.

  items: media, each once. questions: about them. left_out: what its files
  hold besides and cannot be used.
  """
  dataset: str
  name: str
  items: tuple[types.Item, ...]
  questions: tuple[Question, ...]
  left_out: tuple[types.LeftOut, ...] = dataclasses.field(
      default=(), kw_only=True)

  def of_kinds(self, *kinds: str) -> tuple[Question, ...]:
    """The questions of these kinds, in order."""
    return tuple(q for q in self.questions if q.kind in kinds)

  def to_choose(self) -> tuple[Question, ...]:
    """Those with something to choose from, and a known answer."""
    return tuple(q for q in self.questions
                 if len(q.choices) > 1 and q.answer is not None)

  def without(self, item_ids: Sequence[str]) -> 'Questions':
    """This split less the named items and the questions about them."""
    drop = set(item_ids)
    keep = [i for i, item in enumerate(self.items) if item.id not in drop]
    place = {old: new for new, old in enumerate(keep)}
    return dataclasses.replace(
        self, items=tuple(self.items[i] for i in keep), questions=tuple(
            dataclasses.replace(q, item=place[q.item])
            for q in self.questions if q.item in place))


def check_choices(name: str, choices: Sequence[str]) -> None:
  """Raises ValueError naming the question for choices that are none."""
  if isinstance(choices, str):
    raise ValueError(f'{name}: its choices are one string, wanted a list of '
                     'texts')
  if not len(choices):
    raise ValueError(f'{name}: it has no choices; give it one at least')
  seen = set()
  for choice in choices:
    if not isinstance(choice, str) or not choice.strip():
      raise ValueError(f'{name}: the choice {choice!r:.60} is no text; give it '
                       'a word, or leave it out')
    if choice in seen:
      raise ValueError(f'{name}: the choice {choice!r:.60} is there twice; '
                       'give each once')
    seen.add(choice)
