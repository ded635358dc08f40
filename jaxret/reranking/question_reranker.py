"""LLaVA-NeXT as a reranker, asked as MM-Embed asks it (arXiv 2411.02571 §3).

A prompt is a question about a pair, in which a candidate may come first; what
the prompts of a query begin with alike is computed once for some candidates.
"""
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import tqdm
from jax.sharding import Mesh

from jaxret import reading, sharding
from jaxret.data import question_frames
from jaxret.data.llava import pairs, questions
from jaxret.models.llava import model as llava_next
from jaxret.reranking import reranker


class QuestionReranker(reranker.Reranker):
  """P(True) of LLaVA-NeXT; prefill alone, nothing is generated.

  config: a LlavaNextConfig; params: as models.llava.model has them; reader: a
  data.llava.pairs.PairReader; mesh: where the work is done. frame: see
  data.llava.pairs.asked. queries_at_once, candidates_at_once: of a device, and
  of a query.
  """

  def __init__(self, config: Any, params: dict[str, Any],
               reader: pairs.PairReader, mesh: Mesh | None = None,
               frame: Any = None, queries_at_once: int = 4,
               candidates_at_once: int = 10):
    self._open(config, params, reader, mesh, frame)
    self.queries_at_once = queries_at_once * sharding.batch_shards(self.mesh)
    self.candidates_at_once = candidates_at_once

  check_frame = staticmethod(pairs.asked)

  def _scorer(self, frame, instruction, calibrate, features):
    asked = self.frame if frame is None else self.check_frame(frame)
    words = np.array(self.reader.words(asked), np.int32)
    pairs.check_instruction(asked, instruction)
    if features is not None:
      raise ValueError(f'features = {str(features)!r} has no effect on a '
                       'LLaVA-NeXT, which sees the images of each pair anew: '
                       'leave it out')
    if calibrate and not isinstance(asked.by, question_frames.QuestionFrame):
      raise ValueError("calibrate = True: questions of MM-Embed's kind have no "
                       'empty candidate: leave it out, or ask by a frame, '
                       'true_false, say')
    def score(queries, universe, wanted, failed, show_progress):
      found = np.full((len(queries), len(universe)), np.nan, np.float32)
      reader = self.reader.fresh()
      groups = list(_groups(self, *(_usable(reader, items, failed)
                                    for items in (queries, universe)), wanted))
      for group in tqdm.tqdm(groups, 'reranking', unit='batch',
                             disable=not show_progress):
        read = [_read(reader, queries[q], universe, own, asked, instruction,
                      failed) for q, own in group]
        self._answer([(q, its) for (q, _), its in zip(group, read) if its],
                     words, found, failed)
      return found
    return score

  def _answer(self, rows, words, found, failed):
    """Writes the log odds of [(query, {candidate: its prompt})]."""
    if not rows:
      return
    prompts = [list(its.values()) for _, its in rows]
    prompts += prompts[-1:] * (self.queries_at_once - len(prompts))
    shape = questions.group_shape(prompts)._replace(
        suffixes=self.candidates_at_once)
    batch = questions.pad_groups(prompts, shape, self.reader.grid)
    with jax.set_mesh(self.mesh):
      odds = sharding.to_host(_compiled(self.config)(
          self.params, {name: sharding.constant(self.mesh, array)
                        for name, array in batch.items()},
          sharding.replicate(self.mesh, words)))
    for (q, its), values in zip(rows, odds):
      for (c, prompt), value in zip(its.items(), values):
        if np.isfinite(value):
          found[q, c] = value
        else:
          failed(ValueError(
              f'{prompt.id}: its score is not finite; the weights are damaged, '
              'or overflow in this dtype'))


@functools.lru_cache
def _compiled(config):
  return jax.jit(functools.partial(llava_next.log_odds_of_suffixes, config))


def _usable(reader, items, failed):
  """The numbers of Items that can be in a pair; the others are told."""
  there = [i for i, item in enumerate(items) if item is not None]
  empty = {i for i in there if items[i] is reranker.EMPTY}
  found = {i for i, _ in reading.usable(
      reading.read_ahead(lambda i: reader.check(items[i]),
                          [i for i in there if i not in empty], 64),
      lambda i: items[i].id, failed)}
  return found | empty


def _groups(model, queries, candidates, wanted) -> Iterator[list]:
  """Yields [(query, its candidates)] that are asked about together.

  queries, candidates: the numbers of those that can be used.
  """
  parts = []
  for q, own in enumerate(wanted):
    own = [c for c in dict.fromkeys(own) if c in candidates]
    if q in queries:
      parts += [(q, own[i:i + model.candidates_at_once])
                for i in range(0, len(own), model.candidates_at_once)]
  for i in range(0, len(parts), model.queries_at_once):
    yield parts[i:i + model.queries_at_once]


def _read(reader, query, universe, own, asked, instruction, failed):
  """{candidate: its prompt} of a query, of those that can be asked about."""
  def read(c):
    return reader(query, universe[c], asked, instruction)
  return dict(reading.usable(
      reading.read_ahead(read, own, 2 * reading.READ_AHEAD),
      lambda c: f'{query.id} with {universe[c].id}', failed))

