"""From scored choices to results.json, a table and report.html."""
from typing import NamedTuple

import numpy as np

from jaxret import protocols, report, run
from jaxret.data import media, types
from jaxret.methods.answers import MAIN_ROW, ROWS, evaluator
from jaxret.scoring.likelihood import choices, cpn

FRAMES, FRAME_PX = 4, 96  # of an item in the report
SHOWN_ROWS = ('prior', 'likelihood', 'cpn')


def write(config, workdir, split, scored, chosen, described, train=None):
  """Writes the results of a split and returns them, as in results.json.

  scored: {split: evaluator.Scored}, the reported one last. chosen: (alpha, the
  split it was chosen on). described: {row: texts of the first items}. train:
  the training split, None where nothing was trained here.
  """
  alpha, chosen_on = chosen
  reported = list(scored.values())[-1]
  found, table = evaluator.tabulate(reported, alpha, chosen_on)
  results = {
      'dataset': f'questions about {split.dataset}', 'split': split.name,
      'sizes': {'items': len(split.items),
                'questions': len(reported.questions)},
      'left_out': run.left_out(workdir), **found}
  tables = []
  if train is not None:
    results['usual_answers'] = evaluator.usual_answers(reported, table, train)
    tables.append(_usual_table(results['usual_answers']))
  if found['yes_no']:
    tables.append(_yes_no_table(found['yes_no']))
  results['tables'] = tables
  results['descriptions'] = [
      {'item': item.id, **{row: texts[i] for row, texts in described.items()}}
      for i, item in enumerate(split.items[:config.eval.captions])]
  protocols.add(results, config, config.data.root, [_Asked.of(
      reported.questions)])
  run.publish(config, workdir, results, _sweeps(scored, alpha),
              gallery=_gallery(config, split, reported, table),
              queries=_all_queries(reported, table),
              written=_written(config, split, described, alpha))
  return results


class _Asked(NamedTuple):
  """Questions as a task whose answers are places among their choices."""
  name: str
  queries: list
  relevant: list

  @classmethod
  def of(cls, questions):
    return cls('questions', [
        types.Item(one.id, '\n'.join((one.text, *one.choices)))
        for one in questions], [(one.answer,) for one in questions])


def _yes_no_table(rows):
  names = ('accuracy', 'precision', 'recall', 'f1', 'yes_share')
  return {'title': 'yes or no, in percent, as POPE reports it', 'rows': [
      ('answers by', 'accuracy', 'precision', 'recall', 'F1', 'yes'), *(
          (_words(row), *(f'{found[name]:.1f}' for name in names))
          for row, found in rows.items())]}


def _words(row):
  return ROWS.get(row, row)


def _usual_table(shares):
  return {'title': 'answers that are the most frequent of their question in '
                   'training, percent',
          'rows': [('answers by', 'share'), *(
              (_words(row), f'{share:.1f}')
              for row, share in shares.items())]}


def _sweeps(scored, alpha):
  """Accuracy against alpha, all questions together; None without a choice."""
  if 'validation' not in list(scored)[:-1]:
    return None
  curves = {name: choices.sweep(one.likelihoods, one.answers)
            for name, one in scored.items()}
  return report.Sweeps(
      weight='alpha', axis='alpha, the share of the prior that is subtracted',
      heading='How much of the prior to subtract',
      text='Alpha times the log-likelihood that a choice has without the video '
           'is subtracted. It is chosen on the validation split; the curve on '
           'test is drawn to show whether the choice carries over.',
      panels=(report.Sweep(evaluator.ALL, np.array(cpn.GRID),
                           curves['validation'], alpha,
                           list(curves.values())[-1]),))


def _all_queries(scored, table):
  """[report.Queries] of the kinds of questions; all of them come first."""
  found = []
  for kind, index in scored.groups().items():
    own = [scored.questions[i] for i in index]
    found.append(report.Queries(
        kind, [q.id for q in own], [q.text for q in own],
        {row: choices.ranks(scores[index], [q.answer for q in own])
         for row, scores in table.items()}, _main(table),
        pool=report.pool_of(choice for q in own for choice in q.choices)))
  return found


def _main(table):
  return MAIN_ROW if MAIN_ROW in table else list(table)[-1]


def _gallery(config, split, scored, table):
  """Some questions of each kind, with the choices in the order of each row."""
  queries = []
  for kind, index in scored.groups().items():
    if kind == evaluator.ALL and len(scored.groups()) > 1:
      continue
    own = [scored.questions[i] for i in index]
    def asked(n, own=own):
      item = split.items[own[n].item]
      return _shown(own[n].id, own[n].text, item)
    queries += report.gallery_queries(
        kind, asked, {row: _row(own, table[row][index])
                      for row in SHOWN_ROWS if row in table},
        config.eval.gallery_queries // 2, config.eval.gallery_queries // 2)
  return queries


def _row(questions, scores):
  """A report.Row whose candidates are the choices of all questions, in turn."""
  starts = np.cumsum([0, *(len(q.choices) for q in questions)])
  texts = [text for q in questions for text in q.choices]
  ranks = choices.ranks(scores, [q.answer for q in questions])
  def top(n):
    own = scores[n, :len(questions[n].choices)]
    return starts[n] + np.argsort(-own, kind='stable')
  return report.Row(
      ranks, [[starts[n] + q.answer] for n, q in enumerate(questions)], top,
      lambda c: report.Shown(f'choice {c}', texts[c]),
      lambda n, indices: scores[n][np.asarray(indices) - starts[n]])


def _shown(name, text, item):
  frames = media.load_frames(
      item, FRAMES if item.video is not None else 1, FRAME_PX)
  return report.Shown(name, text, frames, report.path_of(
      item.video if item.video is not None else item.image))


def _written(config, split, described, alpha):
  """What was written about the first items, with CPN beside without."""
  references = {q.item: q.choices[0] for q in split.questions
                if q.text == config.eval.prompt and len(q.choices) == 1}
  words = {'greedy': 'without CPN', 'greedy_cpn': f'with CPN, alpha {alpha:g}'}
  return [report.Written(
      _shown(item.id, config.eval.prompt, item),
      references.get(i), {words[row]: texts[i]
                          for row, texts in described.items()})
          for i, item in enumerate(split.items[:config.eval.captions])
          if described]
