"""From trained parameters to results.json, a table and report.html."""
import functools
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from jaxret import by_rows, comparisons, metrics, protocols, report, run
from jaxret.data import types
from jaxret.data.sets import splits as data_splits
from jaxret.methods import blim
from jaxret.methods.blim import cascade, evaluator, tables
from jaxret.methods.blim import scores as scores_lib
from jaxret.scoring import trec
from jaxret.scoring.likelihood import cpn

_BLOCK_CELLS = 1 << 19

# In the gallery.
SHOWN_ROWS = ('candidate_likelihood', 'cpn', 'query_likelihood', 'blim')


class EvaluatedSplit(NamedTuple):
  """A split to evaluate: its features, and its frames if there are any.

  first_stage: {direction: [Q, C]} or None.
  """
  split: types.Split
  features: types.Visuals
  frames: types.Visuals | None
  first_stage: dict | None


def write(config, workdir, mesh, method, params, splits):
  """Scores every split and writes the results of the last one.

  method: a Method with a scorer. splits: {name: EvaluatedSplit}; weights are
  chosen on 'validation' if it is there, else the paper's are taken. Returns
  results as in results.json; None on all processes but 0.
  """
  directions, about = cascade.evaluate(
      config, workdir, mesh, method, params, splits,
      evaluator.options_of(config))
  if jax.process_index() == 0:
    return _write(config, workdir, directions, splits, about)
  return None


def _write(config, workdir, directions, splits, about_cascade):
  """directions, about_cascade: what cascade.evaluate gives."""
  name = list(splits)[-1]
  data, scores = splits[name], directions[name]
  paper = scores_lib.paper_weights(config)
  others = {'paper': paper,
            'oracle': evaluator.choose_weights(scores, data.split)}
  temperatures = None
  if 'validation' in splits and name != 'validation':
    on = directions['validation'], splits['validation'].split
    chosen_on, chosen = 'validation', evaluator.choose_weights(*on)
    temperatures = tables.choose_temperatures(*on, chosen, scores)
  else:
    chosen_on, chosen = 'paper', others.pop('paper')
  table = tables.tabulate(scores, data.split, chosen, temperatures, **others)
  results = {
      'dataset': data.split.dataset, 'split': data.split.name,
      'sizes': {'videos': len(data.split.videos),
                'texts': len(data.split.texts)},
      'left_out': run.left_out(workdir), **table.summaries,
      'weights': _weights(table.summaries, chosen_on, chosen, others,
                          temperatures),
      'differences': {direction: comparisons.compare(ranks, blim.PAIRS)
                      for direction, ranks in table.ranks.items()},
      'hubness': tables.hubness(scores, table.matrices),
      'invariant_scores': config.eval.get('invariant', False)}
  all_at_once = {row for rows in (temperatures or {}).values() for row in rows}
  if all_at_once:
    results['all_queries_at_once'] = sorted(all_at_once)
  if note := data_splits.note(run.trained_on(config, workdir), data.split):
    results['note'] = note
  protocols.add(results, config, config.data.root, (
      data.split.text_to_video(), data.split.video_to_text()),
                protocols.counts_of(results))
  if about_cascade:
    results.update(cascade=about_cascade, tables=cascade.tables(about_cascade))
  priors = tables.priors_of_first(
      scores, table.matrices, evaluator.relevant(data.split))
  if config.eval.trec_depth:
    _write_trec(config, workdir, data.split, table.matrices)
  run.publish(config, workdir, results,
              _sweeps(directions, splits, name, chosen, paper),
              _hubs(scores, table.matrices),
              _gallery(config, data, table.ranks, _queries(scores, chosen)),
              queries=_all_queries(data.split, table.ranks, priors))
  return results


def _all_queries(split, ranks, priors):
  """[report.Queries]; ranks, priors: {direction: {row: [Q]}}."""
  tasks = {direction: getattr(split, direction)() for direction in ranks}
  return [report.Queries.of_items(
      direction, tasks[direction].queries, of, blim.MAIN_ROW,
      candidates=tasks[direction].candidates,
      numbers={tables.PRIOR_OF_FIRST: priors[direction]}
      if direction in priors else {})
          for direction, of in ranks.items()]


def _write_trec(config, workdir, split, matrices):
  """runs/<direction>.<row>.trec of every row, and runs/<direction>.qrels."""
  directory = pathlib.Path(workdir) / 'runs'
  for direction, rows in matrices.items():
    task = getattr(split, direction)()
    ids = [[item.id for item in side]
           for side in (task.queries, task.candidates)]
    trec.write_relevance(
        directory / f'{direction}.qrels', task.relevant, *ids)
    for row, scores in rows.items():
      trec.write_run(directory / f'{direction}.{row}.trec', scores, *ids,
                     config.eval.trec_depth, f'jaxret-{row}')


def _weights(summaries, chosen_on, chosen, others, temperatures=None):
  """{direction: {row: {'chosen_on', 'alpha', 'query_weight', ...}}}."""
  used = {'cpn': ('alpha',), 'bidirectional': ('query_weight',),
          'blim': ('alpha', 'query_weight'),
          'ensemble': ('alpha', 'query_weight', 'first_stage_weight')}
  sets = {'': (chosen_on, chosen)}
  for name, weights in others.items():
    sets[f'_{name}'] = ('test' if name == 'oracle' else name, weights)
  table = {}
  for direction, rows in summaries.items():
    table[direction] = {}
    for suffix, (split, weights) in sets.items():
      for row, names in used.items():
        if row + suffix in rows:
          w = weights[direction][row]
          values = {'alpha': w.alpha, 'query_weight': w.c,
                    'first_stage_weight': round(1 - w.d, 6)}
          table[direction][row + suffix] = {
              'chosen_on': split, **{n: values[n] for n in names}}
    for row, temperature in (temperatures or {}).get(direction, {}).items():
      of = next(r for r in tables.NORMALIZED_ROWS if row.startswith(f'{r}_'))
      table[direction][row] = {'chosen_on': chosen_on, **table[direction].get(
          of, {}), 'temperature': temperature}
  return table


def _sweeps(directions, splits, name, chosen, paper):
  """R@1 against alpha, for directions that have a prior; None without any."""
  panels = []
  for direction in evaluator.DIRECTIONS:
    scores = directions[name][direction]
    if scores.candidate is None or 'validation' not in directions:
      continue
    curve = {split: cpn.sweep(
        directions[split][direction],
        evaluator.relevant(splits[split].split)[direction])
        for split in {'validation', name}}
    panels.append(report.Sweep(
        direction, np.array(cpn.GRID), curve['validation'],
        chosen[direction]['cpn'].alpha,
        curve[name] if name != 'validation' else None,
        paper[direction]['cpn'].alpha))
  return report.Sweeps(
      weight='alpha', axis='alpha, the share of the prior that is subtracted',
      heading='How much of the prior to subtract',
      text='Candidate prior normalization subtracts alpha times the '
           'log-likelihood that a candidate has without any query. Alpha is '
           'chosen on the validation split; the curve on test is drawn to show '
           'whether the choice carries over.',
      panels=tuple(panels)) if panels else None


def _hubs(found, matrices):
  """report.Hubness of the directions that have a candidate likelihood."""
  return [
      report.Hubness(
          direction, {row: metrics.first_counts(rows[row])
                      for row in ('candidate_likelihood', 'cpn')
                      if row in rows},
          _mean_row(found[direction].prior) if 'cpn' in rows else None)
      for direction, rows in matrices.items()
      if 'candidate_likelihood' in rows]


def _mean_row(matrix):
  """[C], the mean over the rows of a matrix that need not fit into memory."""
  total = sum(block.sum(0, np.float64)
              for _, block in by_rows.blocks(matrix, _BLOCK_CELLS))
  return (total / len(matrix)).astype(np.float32)


def _queries(found, chosen):
  """{direction: function of a query -> Rows of its scores alone}."""
  def rows(direction, query):
    return cpn.rows(cpn.of_queries(found[direction], [query]),
                    chosen[direction])
  return {direction: functools.partial(rows, direction) for direction in found}


def _gallery(config, data, ranks, rows_of):
  """report.GalleryQuery of some; ranks: {direction: {row: [Q]}}.

  rows_of: as _queries returns it. A query's scores are made again where it is
  shown, so that no matrix has to be kept.
  """
  def show(items, index):
    item = items[index]
    if item.text is not None or data.frames is None:
      return report.Shown(item.id, item.text or item.id)
    return report.Shown(
        item.id, frames=data.frames[index], path=report.path_of(
            item.video if item.image is None else item.image))

  def top(direction, row, relevant, query):
    return metrics.top(rows_of[direction](query)[row][0], relevant[query],
                       report.SHOWN_CANDIDATES)

  def score(direction, row, query, indices):
    return rows_of[direction](query)[row][0][indices]

  n_shown, gallery = config.eval.gallery_queries // 2, []
  for direction, of_row in ranks.items():
    task = getattr(data.split, direction)()
    rows = {
        row: report.Row(
            of_row[row], task.relevant,
            functools.partial(top, direction, row, task.relevant),
            functools.partial(show, task.candidates),
            functools.partial(score, direction, row))
        for row in SHOWN_ROWS if row in of_row}
    gallery += report.gallery_queries(
        direction, functools.partial(show, task.queries), rows, n_shown,
        n_shown)
  return gallery
