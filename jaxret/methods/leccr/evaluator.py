"""Evaluates LECCR: texts of one language against images or videos.

Both sides are embedded once; the score of a pair is their cosine, for videos
fused with that of the best slot (the authors' two evaluation scripts).
"""
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxret import comparisons, metrics, report, retrieval, sharding
from jaxret.methods import leccr as paper
from jaxret.methods.leccr import examples as examples_lib
from jaxret.methods.leccr import method as leccr
from jaxret.scoring.embeddings import double_similarity

MAIN_ROW = 'leccr'
DIRECTIONS = ('text_to_visual', 'visual_to_text')


class Embedded(NamedTuple):
  """texts [T, E] and visuals [V, E], unit vectors; slots [V, n, E] or None."""
  texts: np.ndarray
  visuals: np.ndarray
  slots: np.ndarray | None


def embed(module, params, mesh, split, visuals, encode, batch_size=64,
          tokens=None):
  """Embedded texts and visuals of a data.sets.nrccr.ParallelSplit.

  visuals, tokens: as for ParallelExamples; encode: text -> token ids. Every
  process computes the same. Raises ValueError where descriptions are missing.
  """
  tokens = tokens or {}
  slots = bool(module.config.slots)
  if slots and len(split.descriptions) != len(split.videos):
    raise ValueError(
        f'{split.dataset} {split.name}: got {len(split.descriptions)} '
        f'descriptions of {len(split.videos)} visuals; describe all of them')
  shards = sharding.batch_shards(mesh)
  texts = examples_lib.PaddedRows(
      [encode(text.text) for text in split.texts], tokens.get('caption'))
  described = examples_lib.PaddedRows(
      list(map(encode, split.descriptions)), tokens.get('description'))

  def text_example(index):
    tokens, length = texts[index]
    return {'text': tokens, 'text_length': length}

  def visual_example(index):
    example = examples_lib.visual_example(visuals, index)
    if slots:
      example['description'], example['description_length'] = described[index]
    return example

  def run(function, example, count):
    # A multiple of the devices, and no larger than what there is.
    size = -(-min(batch_size, count) // shards) * shards
    return _in_batches(_compiled(function, module), params, mesh, example,
                       count, size)

  embedded = run(embed_texts, text_example, len(split.texts))
  gallery = run(embed_gallery, visual_example, len(split.videos))
  return Embedded(embedded, *gallery)


def embed_gallery(module, params, batch):
  """(unit vectors [B, E], slots [B, n, E] or None) of visuals.

  batch: 'visual', 'n_frames' and 'description' as in ParallelExamples.
  """
  return module.apply(params, batch['visual'], leccr.frame_mask(batch),
                      *leccr.tokens_of(batch, 'description'),
                      method='embed_gallery')


def embed_texts(module, params, batch):
  """Unit vectors [B, E] of the texts 'text', with 'text_length'."""
  return module.apply(params, *leccr.tokens_of(batch, 'text'),
                      method='embed_texts')


@functools.lru_cache
def _compiled(function, module):
  """Jitted; models of one config share what it compiles."""
  return jax.jit(functools.partial(function, module))


def _in_batches(function, params, mesh, example, count, batch_size):
  """The function's tree of [B, ...] over all examples, on the host."""
  parts = []
  for first in range(0, count, batch_size):
    rows = range(first, min(first + batch_size, count))
    # The last batch is filled up, so that there is one compilation.
    chosen = [example(i) for i in np.resize(rows, batch_size)]
    batch = {name: sharding.constant(
        mesh, np.stack([row[name] for row in chosen]))
             for name in chosen[0]}
    embedded = sharding.to_host(function(params, batch))
    n_rows = len(rows)
    parts.append(jax.tree.map(lambda array, n=n_rows: array[:n], embedded))
  return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def score(embedded, fused, visual_weight=0.9):
  """Scores [T, V]: cosine, or for `fused` the authors' double similarity.

  Without slots it is the cosine.
  """
  scores = double_similarity.cosine(embedded.texts, embedded.visuals)
  if not fused or embedded.slots is None:
    return scores
  slots = double_similarity.best_slot(embedded.texts, embedded.slots)
  return double_similarity.fuse(scores, slots, visual_weight)


def summarize(scores, split):
  """{direction: metrics.summary, 'sum_of_recalls': SumR} of scores [T, V].

  A visual is found where one of its captions is; see metrics.ranks for ties.
  """
  ranks = {
      'text_to_visual': metrics.ranks(scores, split.text_to_video().relevant),
      'visual_to_text': metrics.ranks(
          scores.T, split.video_to_text().relevant)}
  return {**{name: metrics.summary(ranks[name]) for name in DIRECTIONS},
          'sum_of_recalls': metrics.sum_of_recalls(*ranks.values())}


def select(sums, select_on='validation'):
  """The step whose parameters are reported, and on what it was chosen.

  sums: {step: {split: SumR}}. select_on: 'validation', or 'test' as the
  authors' code does, which sees the answers. Of equal ones the first.
  Returns {'step', 'selected_on', 'sum_of_recalls'}: the last of that split.
  """
  if select_on not in ('validation', 'test'):
    raise ValueError(
        f"select_on {select_on!r} is not known; want 'validation' or 'test'")
  lacking = [step for step in sums if select_on not in sums[step]]
  if lacking or not sums:
    raise ValueError(
        f'no SumR on {select_on} of step {lacking[0] if lacking else "any"}: '
        f'put {select_on!r} in eval.splits')
  step = max(sorted(sums), key=lambda step: sums[step][select_on])
  named = {'validation': 'validation', 'test': 'test (released)'}[select_on]
  return {'step': step, 'selected_on': named,
          'sum_of_recalls': sums[step][select_on]}


def tasks(split, language):
  """{name in the results: (Task, whether its scores are transposed)}."""
  kind = 'image' if split.videos[0].image is not None else 'video'
  return {f'text_to_{kind}_{language}': (split.text_to_video(), False),
          f'{kind}_to_text_{language}': (split.video_to_text(), True)}


def results(splits, scores, chosen):
  """Results as report.write takes them.

  splits: {language: ParallelSplit}; scores: {language: {row: [T, V]}}; chosen:
  {language: {row: what `select` gives}}. Besides the tasks there is
  'sum_of_recalls': {language: {row: SumR}}.
  """
  facts, summaries, differences, groups, sums = {}, {}, {}, {}, {}
  for language, split in splits.items():
    sums[language] = dict.fromkeys(scores[language], 0.0)
    for name, (task, transposed) in tasks(split, language).items():
      facts[name] = {'queries': len(task.queries),
                     'candidates': len(task.candidates),
                     'chance': retrieval.chance(task), 'left_out': 0}
      group = name.rpartition('_')[0].replace('_', ' ')
      groups.setdefault(group, []).append(name)
      ranks = {row: metrics.ranks(
          values.T if transposed else values, task.relevant)
               for row, values in scores[language].items()}
      summaries[name] = {
          row: metrics.summary(own) for row, own in ranks.items()}
      differences[name] = comparisons.compare(ranks, paper.PAIRS)
      for row, own in ranks.items():
        sums[language][row] += metrics.sum_of_recalls(own)
  first = next(iter(splits.values()))
  selected_on = next(iter(chosen[next(iter(splits))].values()))['selected_on']
  made = {'dataset': first.dataset, 'split': first.name,
          'sizes': {'languages': len(splits), 'tasks': len(facts), **{
              side: sum(task[side] for task in facts.values())
              for side in ('queries', 'candidates')}},
          'main_row': MAIN_ROW, 'tasks': facts, **summaries,
          'differences': differences,
          'sum_of_recalls': sums, 'selected_on': selected_on,
          'selection': chosen}
  made['means'] = retrieval.group_means(made, groups)
  if selected_on.startswith('test') and first.name == 'test':
    made['note'] = ('checkpoints were selected on test, as the authors do: '
                    'the numbers are better than new data would give')
  return made


def gallery(split, visuals, language, scores, n_shown):
  """Queries of both directions with the first five answers of every row.

  visuals: of the split, None = they are shown by their descriptions. scores:
  {row: [T, V]}, the main row last. n_shown: at most so many misses and so many
  hits of a task.
  """
  def show(items, index):
    item = items[index]
    if item.text is not None:
      return report.Shown(item.id, item.text)
    description = split.descriptions[index] if split.descriptions else item.id
    if visuals is None:
      return report.Shown(item.id, description)
    return report.Shown(item.id, description, visuals[index], report.path_of(
        item.video if item.image is None else item.image))

  queries = []
  for name, (task, transposed) in tasks(split, language).items():
    show_candidate = functools.partial(show, task.candidates)
    rows = {row: report.Row.of_scores(
        matrix.T if transposed else matrix, task.relevant, show_candidate)
            for row, matrix in scores.items()}
    queries += report.gallery_queries(
        name, functools.partial(show, task.queries), rows, n_shown, n_shown)
  return queries


def all_queries(split, language, scores):
  """report.Queries of both directions; scores: {row: [T, V]}, main row last."""
  return [report.Queries.of_items(name, task.queries, {
      row: metrics.ranks(matrix.T if transposed else matrix, task.relevant)
      for row, matrix in scores.items()}, candidates=task.candidates)
          for name, (task, transposed) in tasks(split, language).items()]
