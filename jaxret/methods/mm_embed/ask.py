"""Asks LLaVA-NeXT about the best candidates of each query."""
import functools

import jax
import numpy as np
import tqdm

from jaxret import sharding
from jaxret.data.llava import questions as rerank_inputs
from jaxret.models.llava import model as llava_next


class Reranker:
  """P(True) of queries and candidates: prefill alone, nothing is generated.

  config: a LlavaNextConfig; params: as models.llava.model has them; reader: a
  data.llava.questions.Reader; words: the tokens of True and False, see
  data.llava.question_prompts.answer_ids; mesh: where the work is done.
  batch_size: queries at a time. What the prompts of a query begin with alike
  is computed once for all of its candidates. shape: a rerank_inputs.Shape
  that every batch is padded to, instead of its own: one program for all.
  """

  def __init__(self, config, params, reader, words, mesh=None, batch_size=4,
               shape=None):
    self.config, self.reader, self.shape = config, reader, shape
    self.words = np.asarray(words, np.int32)
    self.mesh = mesh or sharding.make_mesh()
    self.params = jax.device_put(
        params, sharding.shardings(self.mesh, params))
    shards = sharding.batch_shards(self.mesh)
    self.batch_size = -(-batch_size // shards) * shards

  def p_true(self, queries, candidates, question, show_progress=True):
    """float32 [Q, K] of Q Items and the K best candidates of each.

    candidates: Q sequences of K Items; question: a template, as in
    llava.question_prompts.prompt. Raises ValueError naming the item that
    cannot be used.
    """
    out = np.empty((len(queries), len(candidates[0])), np.float32)
    for first in tqdm.trange(0, len(queries), self.batch_size, unit='batch',
                             desc='reranking', disable=not show_progress):
      rows = slice(first, first + self.batch_size)
      groups = [[self.reader(query, one, question) for one in its]
                for query, its in zip(queries[rows], candidates[rows])]
      out[rows] = self._batch(groups)[:len(groups)]
    return out

  def _batch(self, groups):
    groups = groups + groups[-1:] * (self.batch_size - len(groups))
    batch = rerank_inputs.pad_groups(
        groups, self.shape or rerank_inputs.group_shape(groups),
        self.reader.grid)
    with jax.set_mesh(self.mesh):
      return sharding.to_host(_compiled(self.config)(
          self.params,
          {name: sharding.constant(self.mesh, array)
           for name, array in batch.items()},
          sharding.replicate(self.mesh, self.words)))


@functools.lru_cache
def _compiled(config):
  return jax.jit(functools.partial(llava_next.p_true_of_suffixes, config))
