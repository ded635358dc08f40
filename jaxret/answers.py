"""`jaxret.answer`: multiple choice by likelihood, less what language says.

  model = jaxret.load_generator('Qwen/Qwen2-VL-2B-Instruct', dtype='bfloat16')
  found = jaxret.answer([{'video': 'dog.mp4'}], ['What does the dog do?'],
                        [['it runs', 'it sleeps', 'it eats']], model, alpha=0.5)
  found.texts                                               # ('it runs',)

Candidate prior normalization (BLiM, arXiv 2507.23284) with the choices of a
question as its candidates, which the paper claims to help beyond retrieval.
"""
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jaxret import (
  checkpoint,
  embedder,
  generator,
  loading,
  metrics,
  reading,
  sequences,
)
from jaxret.data import questions as questions_lib
from jaxret.data import types
from jaxret.scoring.likelihood import choices as choices_lib

if TYPE_CHECKING:
  import pandas

Right = Sequence[int | str]  # of each question, index or text of a choice


@dataclasses.dataclass(frozen=True)
class Answers:
  """What a model answers to N questions of at most C choices.

  likelihood: log P(choice | item, question); prior: the same with the keys of
  the item's media masked, None where alpha = 0 spared it; float32 [N, C],
  nats, NaN where a question has no such choice and where it cannot be used.
  choices: the texts. alpha: the share of the prior that is subtracted.
  """
  likelihood: np.ndarray
  prior: np.ndarray | None
  choices: tuple[tuple[str, ...], ...]
  alpha: float

  @property
  def scores(self) -> np.ndarray:
    """likelihood - alpha * prior, float32 [N, C], -inf for no choice."""
    return choices_lib.scores(self.parts, self.alpha)

  @property
  def index(self) -> np.ndarray:
    """The best choice of each question, int64 [N]; -1 where there is none.

    Of equal scores the first.
    """
    found = self.scores
    return np.where(np.isfinite(found).any(1), found.argmax(1), -1)

  @property
  def texts(self) -> tuple[str | None, ...]:
    """The text of each answer; None where there is none."""
    return tuple(own[i] if i >= 0 else None
                 for own, i in zip(self.choices, self.index))

  def at(self, alpha: float) -> Self:
    """The same with another alpha; nothing is computed anew."""
    choices_lib.scores(self.parts, alpha)  # raises for what is no alpha
    return dataclasses.replace(self, alpha=alpha)

  def choose_alpha(self, right: Right) -> float:
    """The alpha of 0, 0.1, ..., 1 that answers most of these questions.

    Ties go to the higher MRR, then to the smaller alpha, as in retrieval
    (cpn.choose). Choose on questions that are not those you report.

    Raises:
      ValueError: where the prior was not scored, or for an answer that is no
        choice.
    """
    if self.prior is None:
      raise ValueError('choose_alpha: the prior was not scored: answer with an '
                       'alpha above 0 first, as alpha=1')
    return choices_lib.choose_alpha(self.parts, self._right(right))

  def accuracy(self, right: Right) -> float:
    """Percent of questions answered right; a tie counts as wrong."""
    return metrics.recall_at_k(
        choices_lib.ranks(self.scores, self._right(right)), 1)

  def yes_no(self, right: Right) -> dict[str, Any]:
    """POPE's numbers, see choices.yes_no; all choices must be yes and no."""
    said = {'yes': True, 'no': False}
    for n, own in enumerate(self.choices):
      if sorted(text.strip().lower() for text in own) != ['no', 'yes']:
        raise ValueError(f'question {n} has the choices {list(own)}, wanted '
                         'yes and no')
    def meant(indices):
      return [said[own[i].strip().lower()]
              for own, i in zip(self.choices, indices)]
    choices_lib.ranks(self.scores, self._right(right))  # all are answered
    return choices_lib.yes_no(meant(self.index), meant(self._right(right)))

  def to_pandas(self) -> 'pandas.DataFrame':
    """A row per choice: question, choice, text, chosen, score, its parts.

    Raises ImportError where pandas is not installed.
    """
    import pandas
    row, column = np.nonzero(
        np.arange(self.likelihood.shape[1]) < np.array(
            [len(own) for own in self.choices])[:, None])
    table = {'question': row, 'choice': column,
             'text': [self.choices[n][c] for n, c in zip(row, column)],
             'chosen': column == self.index[row],
             'score': self.scores[row, column],
             'likelihood': self.likelihood[row, column]}
    if self.prior is not None:
      table['prior'] = self.prior[row, column]
    return pandas.DataFrame(table)

  @property
  def parts(self) -> choices_lib.Likelihoods:
    """Both matrices, as scoring.likelihood.choices takes them."""
    return choices_lib.Likelihoods(self.likelihood, self.prior)

  def _right(self, right):
    """Indices of the right choices, given as such or as texts."""
    if len(right) != len(self.choices):
      raise ValueError(f'got {len(right)} right answers for '
                       f'{len(self.choices)} questions; wanted one each')
    found = []
    for n, (own, answer) in enumerate(zip(self.choices, right)):
      if isinstance(answer, str) and answer in own:
        found.append(own.index(answer))
      elif isinstance(answer, (int, np.integer)) and not isinstance(
          answer, bool) and 0 <= answer < len(own):
        found.append(int(answer))
      else:
        raise ValueError(f'question {n}: {answer!r:.60} is no choice of '
                         f'{list(own)}, nor the number of one')
    return found


def answer(
    items: Sequence[embedder.Given], questions: str | Sequence[str],
    choices: Sequence[str] | Sequence[Sequence[str]],
    model: str | os.PathLike | generator.Generator, *,
    alpha: float | None = None, length_normalized: bool = True,
    score_end: bool = True, rows: int = 8, columns: int = 64,
    on_error: str | Callable[[ValueError], None] = 'raise',
    show_progress: bool = True) -> Answers:
  """Answers questions about items by the likelihood of given choices.

  A choice is scored by log P(choice | item, question) - alpha *
  log P(choice | question): the second with the keys of the item's media
  masked, all positions as they are. The question is a user's turn in the
  model's own template, the choice the whole answer. Choices may begin alike,
  and one may be the beginning of another: with the end of the answer scored
  both are answers of their own. Without it the shorter one of two such is
  never less likely by the sum of its tokens, which then says little.

  Args:
    items: N, as for Embedder.encode; each with an image or a video where
      alpha is above 0. A text of its own stands before the question.
    questions: one for all, or N.
    choices: texts for all questions, ('yes', 'no') say, or N such lists of
      any lengths.
    model: a Generator, or what jaxret.load_generator opens.
    alpha: 0 to 1; 0 reads media once and spares the prior. None = what the
      evaluation of a work directory chose, where its path is given, else 0.
    length_normalized: mean over the tokens of a choice, or their sum.
    score_end: the token that ends an answer is scored as part of a choice.
    rows, columns, on_error, show_progress: as for score_sequences; a question
      whose item cannot be used has no answer.

  Returns:
    Answers.

  Raises:
    ValueError: one line for empty choices, a choice that is there twice, alpha
      outside of 0 to 1, and what cannot be read.
  """
  if alpha is None:
    alpha = chosen_alpha(model, length_normalized, score_end)
  choices_lib.check_alpha(alpha)
  prompts = asked(items, questions, alpha)
  own = _choices(prompts, choices)
  if not isinstance(model, generator.Generator):
    model = loading.load_generator(model)
  score = _scorer(model, prompts, own, _end(model) if score_end else '',
                  reading.reaction(on_error), {
                      'reduction': 'mean' if length_normalized else 'sum',
                      'rows': rows, 'columns': columns,
                      'show_progress': show_progress})
  return Answers(score(False), score(True) if alpha else None, own, alpha)


def _scorer(model, prompts, own, end, failed, options):
  """The function (mask_media) -> log P of all choices, float32 [N, C].

  end: what is scored behind a choice. options: of score_sequences. NaN where
  there is no choice, and of all choices where one cannot be scored.
  """
  good = [n for n, prompt in enumerate(prompts)
          if _can_score(model, prompt, own[n], end, failed)]
  texts = list(dict.fromkeys(text for n in good for text in own[n]))
  number = {text: i for i, text in enumerate(texts)}
  places = np.array([(n, c) for n in good for c in range(len(own[n]))])
  pairs = np.array([(n, number[own[n][c]]) for n, c in places])
  # Few texts are one tile, whose shape is the same for all questions.
  few = len(texts) <= options['columns']

  def score(mask_media):
    found = np.full((len(own), max(map(len, own))), np.nan, np.float32)
    if len(pairs):
      values = sequences.score_sequences(
          prompts, [f'{text}{end}' for text in texts], model,
          pairs=None if few else pairs, chat=True, mask_media=mask_media,
          on_error=failed, **options)
      found[tuple(places.T)] = values[tuple(pairs.T)] if few else values
      # Whose numbers are not all finite has no answer: no choice is passed by.
      found[places[np.isnan(found[tuple(places.T)]), 0]] = np.nan
    return found
  return score


def _can_score(model, prompt, texts, end, failed):
  """Whether all choices of a question are tokens; else `failed` is told."""
  try:
    for c, text in enumerate(texts):
      model.reader.suffix(f'{text}{end}', f'{prompt.id}: choice {c}')
  except ValueError as error:
    failed(error)
    return False
  return True


def chosen_alpha(model: str | os.PathLike | generator.Generator,
                 length_normalized: bool, score_end: bool) -> float:
  """What a work directory's evaluation chose on validation, else 0.

  Raises ValueError where it scored choices otherwise than is asked for.
  """
  if isinstance(model, generator.Generator):
    return 0.0
  alpha = loading.chosen_weights(model, 'answers').get('alpha', 0.0)
  if alpha:
    evaluated = checkpoint.read_config(pathlib.Path(model).expanduser()).eval
    for name, asked_for in (('length_normalized', length_normalized),
                            ('score_end', score_end)):
      if evaluated[name] != asked_for:
        raise ValueError(
            f'{model}: its alpha = {alpha:g} was chosen with eval.{name} = '
            f'{evaluated[name]}, got {name} = {asked_for}: give alpha as well')
  return alpha


def asked(items: Sequence[embedder.Given], questions: str | Sequence[str],
          alpha: float) -> list[types.Item]:
  """The Items that ask a question about each item; ValueError as `answer`."""
  if isinstance(items, (str, bytes, dict)) or embedder.is_one(items):
    raise ValueError(f'items: got one {type(items).__name__}, want a list')
  items = list(items)
  if not items:
    raise ValueError('items: got none, want one at least')
  questions = ([questions] * len(items) if isinstance(questions, str)
               else list(questions))
  _check_count('questions', questions, len(items))
  return [_prompt(given, question, n, alpha)
          for n, (given, question) in enumerate(zip(items, questions))]


def _prompt(given, question, n, alpha):
  item = embedder.as_item(given, n)
  if not isinstance(question, str) or not question.strip():
    raise ValueError(f'{item.id}: its question is {question!r:.60}; wanted a '
                     'text of a word at least')
  if alpha and item.image is None and item.video is None:
    raise ValueError(f'{item.id}: it has no image and no video, whose keys '
                     'alpha masks: give it one, or set alpha=0')
  if item.text is not None and not isinstance(item.text, str):
    raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; want '
                     'a string')
  text = question if item.text is None else f'{item.text}\n{question}'
  return types.Item(item.id, text, item.image, item.video)


def _choices(prompts, choices):
  """The choices of each question, ((text, ...), ...)."""
  if isinstance(choices, str):
    raise ValueError('choices: got one text, want a list of them')
  choices = list(choices)
  if all(isinstance(one, str) for one in choices):  # or there are none
    choices = [choices] * len(prompts)
  _check_count('choices', choices, len(prompts))
  for prompt, own in zip(prompts, choices):
    questions_lib.check_choices(prompt.id, own)
  return tuple(map(tuple, choices))


def _check_count(what, found, count):
  if len(found) != count:
    raise ValueError(f'got {len(found)} {what} for {count} items; want one of '
                     'each, or one for all')


def _end(model):
  if not model.reader.ends:
    raise ValueError('the tokenizer has no token that ends an answer: set '
                     'score_end=False')
  return model.reader.decode(model.reader.ends[:1])
