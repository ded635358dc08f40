"""From likelihoods of choices to results: accuracy by kind, and differences."""
import collections
from typing import NamedTuple

import numpy as np

from jaxret import comparisons, metrics
from jaxret.data import questions as questions_lib
from jaxret.scoring.likelihood import choices

ALL = 'all questions'
BASELINE, OURS = 'likelihood', 'cpn'


class Scored(NamedTuple):
  """The questions of a split that have choices, and what a model says of them.

  likelihoods: choices.Likelihoods of the questions, in order.
  """
  questions: tuple[questions_lib.Question, ...]
  likelihoods: choices.Likelihoods

  @property
  def answers(self):
    """Indices of the right choices."""
    return [question.answer for question in self.questions]

  def groups(self):
    """{ALL or kind: int64 [n], the numbers of its questions}."""
    kinds = list(dict.fromkeys(q.kind for q in self.questions))
    found = {ALL: np.arange(len(self.questions))}
    if len(kinds) > 1:
      found |= {kind: np.array([i for i, q in enumerate(self.questions)
                                if q.kind == kind]) for kind in kinds}
    return found


def alpha_of(config, scored):
  """(alpha, what it was chosen on): 'validation', if another is reported.

  scored: {split: Scored}, the reported one last.
  """
  if 'validation' in list(scored)[:-1]:
    chosen = scored['validation']
    return choices.choose_alpha(
        chosen.likelihoods, chosen.answers), 'validation'
  return config.eval.alpha, 'config'


def rows(scored, alpha):
  """{row: scores [N, C]} of a split."""
  parts = scored.likelihoods
  found = {BASELINE: choices.scores(parts, 0.0)}
  if parts.prior is None:
    return found
  prior = choices.Likelihoods(parts.prior, None)
  oracle = choices.choose_alpha(parts, scored.answers)
  return {'prior': choices.scores(prior, 0.0), **found,
          OURS: choices.scores(parts, alpha),
          'cpn_full': choices.scores(parts, 1.0),
          'cpn_oracle': choices.scores(parts, oracle)}


def tabulate(scored, alpha, chosen_on):
  """The part of results.json that is about choices; see report.write."""
  table = rows(scored, alpha)
  ranks = {row: choices.ranks(found, scored.answers)
           for row, found in table.items()}
  results = {'tasks': {}, 'weights': {}, 'differences': {}}
  weights = {OURS: {'chosen_on': chosen_on, 'alpha': alpha},
             'cpn_full': {'chosen_on': 'nothing', 'alpha': 1.0},
             'cpn_oracle': {'chosen_on': 'test', 'alpha': choices.choose_alpha(
                 scored.likelihoods, scored.answers)}}
  for kind, index in scored.groups().items():
    counts = np.array([len(scored.questions[i].choices) for i in index])
    results['tasks'][kind] = {
        'queries': len(index), 'candidates': int(counts.sum()),
        'chance': 100.0 * float(np.mean(1 / counts)),
        'list_length': round(float(counts.mean()), 2)}
    own = {row: found[index] for row, found in ranks.items()}
    results[kind] = {row: metrics.summary(found, recall_at=(1,))
                     for row, found in own.items()}
    results['weights'][kind] = {row: weight for row, weight in weights.items()
                                if row in ranks}
    results['differences'][kind] = comparisons.compare(
        own, [(OURS, BASELINE), ('cpn_full', BASELINE)], ('recall_at_1',))
  results['yes_no'] = yes_no(scored, table)
  return results, table


def yes_no(scored, table):
  """{row: POPE's numbers} of the questions that ask for yes or no; {} if none.
  """
  index = [i for i, q in enumerate(scored.questions)
           if set(q.choices) == set(questions_lib.YES_NO)]
  if not index:
    return {}
  def meant(indices):
    return [scored.questions[i].choices[c] == 'yes'
            for i, c in zip(index, indices)]
  truth = meant([scored.questions[i].answer for i in index])
  return {row: choices.yes_no(meant(found[index].argmax(1)), truth)
          for row, found in table.items()}


def usual_answers(scored, table, train):
  """{row: percent of the answers that training gives a question most often}.

  Of questions that training asks in the same words, and to which that answer
  is among the choices; 'right answers' is what there is to reach.
  """
  counts = collections.defaultdict(collections.Counter)
  for question in train.questions:
    counts[question.text][question.choices[question.answer]] += 1
  usual, index = {}, []
  for i, question in enumerate(scored.questions):
    if question.text in counts:
      answer = counts[question.text].most_common(1)[0][0]
      if answer in question.choices:
        usual[i] = question.choices.index(answer)
        index.append(i)
  if not index:
    return {}
  wanted = np.array([usual[i] for i in index])
  said = {'right answers': np.array([scored.answers[i] for i in index])} | {
      row: found[index].argmax(1) for row, found in table.items()}
  return {row: 100.0 * float(np.mean(answers == wanted))
          for row, answers in said.items()}


def check(config):
  """Raises ValueError for fields of `eval` that are none."""
  e = config.eval
  choices.check_alpha(e.alpha)
  if not 0 < e.plausibility <= 1:
    raise ValueError(f'eval.plausibility is {e.plausibility}: give a number '
                     'above 0, 1 at most')
  for name in ('rows', 'columns', 'max_new_tokens'):
    if e[name] < 1:
      raise ValueError(f'eval.{name} is {e[name]}; want 1 at least')
