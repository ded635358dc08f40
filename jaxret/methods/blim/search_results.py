"""Results of a run that searches the best k of each query, and proves them.

Weights are chosen on the whole matrices of 'validation'. Of the last split
there is no more than the best k of each query by BLiM's score: recall up to k
is that of all pairs; ranks beyond k, and what needs them, are not known.
"""
import math
import pathlib

import jax
import numpy as np
from absl import logging

from jaxret import metrics, protocols, report, run
from jaxret.data.sets import splits as data_splits
from jaxret.methods.blim import evaluator, phases, search
from jaxret.methods.blim import scores as scores_lib

UNKNOWN = ('median_rank', 'mean_rank', 'mrr')  # they need all ranks


def write(config, workdir, mesh, method, params, splits):
  """Searches the last split and writes its results; as results.write."""
  options, k = evaluator.options_of(config), config.eval.exact_topk
  common = method.scorer.model, params, mesh
  scores = pathlib.Path(workdir) / 'scores'
  name, data = list(splits.items())[-1]
  chosen_on, chosen = 'paper', {
      direction: rows['blim']
      for direction, rows in scores_lib.paper_weights(config).items()}
  if 'validation' in splits and name != 'validation':
    phases.begin(config, phases.scoring('validation'))
    chosen_on, chosen = 'validation', _choose(
        config, common, method.scorer, splits['validation'], options,
        scores / 'validation')
  inputs = _inputs(config, method.scorer, data)
  found, ranks = {}, {}
  phases.begin(config, phases.scoring(name))
  for direction in config.eval.exact_directions:
    logging.info('searching the best %d of %s', k, direction.replace('_', ' '))
    place = *common, inputs, options, scores / name, direction, (
        chosen and chosen[direction])
    found[direction] = search.best(*place, k, slack=search.slack_of(config))
    known = search.scores(*place)
    if known is not None:
      task = getattr(data.split, direction)()
      ranks[direction] = np.minimum(
          metrics.ranks(known, task.relevant), k + 1)
  if jax.process_index() == 0:
    return _publish(config, workdir, data.split, found, ranks, chosen_on,
                    chosen)
  return None


def _inputs(config, scorer, data):
  return evaluator.inputs(scorer, data.split, data.features,
                          zero_shot=config.eval.zero_shot)


def _choose(config, common, scorer, data, options, directory):
  """{direction: Weights} of BLiM's row; None on all processes but 0."""
  found = evaluator.evaluate(
      *common, _inputs(config, scorer, data), options, directory)
  return found and {
      direction: rows['blim'] for direction, rows in
      evaluator.choose_weights(found, data.split).items()}


def _publish(config, workdir, split, found, ranks, chosen_on, chosen):
  certificates = {direction: _certificate(one)
                  for direction, one in found.items()}
  for direction, certificate in certificates.items():
    logging.info('%s', sentence(direction, certificate))
  results = {
      'dataset': split.dataset, 'split': split.name,
      'sizes': {'videos': len(split.videos), 'texts': len(split.texts)},
      'left_out': run.left_out(workdir),
      **{direction: {'blim': summary(of, config.eval.exact_topk)}
         for direction, of in ranks.items()},
      'weights': {direction: {'blim': {
          'chosen_on': chosen_on, 'alpha': w.alpha, 'query_weight': w.c}}
                  for direction, w in chosen.items()},
      'certificates': certificates,
      'tables': [_table(certificates, config.eval.exact_topk)]}
  note = data_splits.note(run.trained_on(config, workdir), split)
  if note:
    results['note'] = note
  protocols.add(results, config, config.data.root, (
      split.text_to_video(), split.video_to_text()),
                protocols.counts_of(results))
  run.publish(config, workdir, results, queries=[
      report.Queries.of_items(
          direction, task.queries, {'blim': ranks[direction]},
          deepest=config.eval.exact_topk, candidates=task.candidates)
      for direction in ranks for task in (getattr(split, direction)(),)])
  return results


def summary(ranks, k):
  """metrics.summary of ranks [Q] of which those beyond k are not known."""
  depths = sorted({k, *(depth for depth in metrics.RECALL_AT if depth < k)})
  row = metrics.summary(ranks, recall_at=depths)
  return {name: value for name, value in row.items() if name not in UNKNOWN}


def _certificate(found):
  """What results.json says of one search.Found."""
  margin = float(found.margin.min())
  return {
      'k': found.index.shape[1], 'queries': len(found.index),
      'certified': int(found.certified.sum()),
      'smallest_margin': margin if math.isfinite(margin) else None,
      'pairs_scored_whole': found.whole, 'tokens': found.tokens,
      'tokens_of_all_pairs': found.all_tokens,
      'token_share': found.tokens / found.all_tokens,
      'expected_share': found.expected.expected,
      'least_share': found.expected.least}


def sentence(direction, certificate):
  """'video to text: 1,000 of 1,000 videos certified; 2.5 % of the pairs ...'.
  """
  queries = f'{direction.split("_")[0]}s'
  return (f'{direction.replace("_", " ")}: {certificate["certified"]:,} of '
          f'{certificate["queries"]:,} {queries} certified; ' + '; '.join(
              f'{name} {value}' for name, value in _cells(certificate)))


def _cells(certificate):
  """[(heading, cell)] of one search."""
  shares = {'pairs scored whole': 'pairs_scored_whole',
            'tokens': 'token_share', 'expected tokens': 'expected_share'}
  margin = certificate['smallest_margin']
  return [
      *((heading, f'{100 * certificate[name]:.3g} %')
        for heading, name in shares.items()),
      ('smallest margin', '-' if margin is None else f'{margin:.2g} nats')]


def _table(certificates, k):
  """The certificates as a table of the report."""
  first = next(iter(certificates.values()))
  rows = [('', 'certified', *(name for name, _ in _cells(first)))]
  for direction, certificate in certificates.items():
    rows.append((
        direction.replace('_', ' '), f'{certificate["certified"]:,} of '
        f'{certificate["queries"]:,}',
        *(cell for _, cell in _cells(certificate))))
  return {'title': f'Certified search: the best {k} of each query are those of '
                   'all pairs; ranks beyond are not known',
          'rows': rows}
