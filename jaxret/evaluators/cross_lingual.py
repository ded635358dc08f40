"""Evaluates LECCR: texts of one language against images or videos.

Both sides are embedded once; the score of a pair is their cosine, for videos
fused with that of the best slot (the authors' two evaluation scripts).
"""
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxret import metrics, sharding
from jaxret.data import examples as examples_lib
from jaxret.methods import leccr
from jaxret.scoring import double_similarity

DIRECTIONS = ('text_to_visual', 'visual_to_text')


class Embedded(NamedTuple):
  """texts [T, E] and visuals [V, E], unit vectors; slots [V, n, E] or None."""
  texts: np.ndarray
  visuals: np.ndarray
  slots: np.ndarray | None


def embed(module, params, mesh, split, visuals, encode, batch_size=64):
  """Embedded texts and visuals of a data.parallel.ParallelSplit.

  visuals: as for ParallelExamples; encode: text -> token ids. Every process
  computes the same. Raises ValueError where descriptions are missing.
  """
  slots = bool(module.config.slots)
  if slots and len(split.descriptions) != len(split.videos):
    raise ValueError(
        f'{split.dataset} {split.name}: got {len(split.descriptions)} '
        f'descriptions of {len(split.videos)} visuals; describe all of them')
  batch_size = -(-batch_size // sharding.batch_shards(mesh)) * (
      sharding.batch_shards(mesh))
  texts = examples_lib.PaddedRows(
      [encode(text.text) for text in split.texts])
  described = examples_lib.PaddedRows(list(map(encode, split.descriptions)))

  def text_example(index):
    tokens, length = texts[index]
    return {'text': tokens, 'text_length': length}

  def visual_example(index):
    example = examples_lib.visual_example(visuals, index)
    if slots:
      example['description'], example['description_length'] = described[index]
    return example

  def run(function, example, count):
    jitted = jax.jit(functools.partial(function, module))
    return _in_batches(jitted, params, mesh, example, count, batch_size)

  found = run(leccr.embed_texts, text_example, len(split.texts))
  gallery = run(leccr.embed_gallery, visual_example, len(split.videos))
  return Embedded(found, *gallery)


def _in_batches(function, params, mesh, example, count, batch_size):
  """The function's tree of [B, ...] over all examples, on the host."""
  parts = []
  for first in range(0, count, batch_size):
    rows = range(first, min(first + batch_size, count))
    # The last batch is filled up, so that there is one compilation.
    chosen = [example(i) for i in np.resize(rows, batch_size)]
    batch = {name: np.stack([one[name] for one in chosen])
             for name in chosen[0]}
    batch = {name: sharding.constant(mesh, array)
             for name, array in batch.items()}
    found = sharding.to_host(function(params, batch))
    n_rows = len(rows)
    parts.append(jax.tree.map(lambda array, n=n_rows: array[:n], found))
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


def select(found, select_on='validation'):
  """The step whose parameters are reported, and on what it was chosen.

  found: {step: {split: SumR}}. select_on: 'validation', or 'test' as the
  authors' code does, which sees the answers. Of equal ones the first.
  Returns {'step', 'selected_on', 'sum_of_recalls'}: the last of that split.
  """
  if select_on not in ('validation', 'test'):
    raise ValueError(
        f"select_on {select_on!r} is not known; want 'validation' or 'test'")
  lacking = [step for step, sums in found.items() if select_on not in sums]
  if lacking or not found:
    raise ValueError(
        f'no SumR on {select_on} of step {lacking[0] if lacking else "any"}: '
        f'put {select_on!r} in eval.splits')
  step = max(sorted(found), key=lambda step: found[step][select_on])
  named = {'validation': 'validation', 'test': 'test (released)'}[select_on]
  return {'step': step, 'selected_on': named,
          'sum_of_recalls': found[step][select_on]}
