"""Rerankers, small and random, what they are given, and whole pairs."""
import functools

import jax
import numpy as np

from jaxret import embedder, sharding
from jaxret.data import types
from jaxret.data.qwen2_vl import pairs as qwen2_vl_pairs
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pairs as qwen3_vl_pairs
from jaxret.models import reranking
from jaxret.reranking import reranker
from tests import tiny_generators, tiny_qwen3_vl, tiny_unite

WORDS = ('yes', 'no', 'True', 'False', 'A', 'B')
QUERIES = ('red square', {'image': tiny_unite.pixels(3, 32, 64),
                          'text': 'blue'})
CANDIDATES = (
    types.Item('text', text='red'), types.Item('long', text='(up) left ' * 9),
    types.Item('image', image=tiny_unite.pixels(0, 64, 64)),
    types.Item('both', text='moves', image=tiny_unite.pixels(1, 32, 96)),
    types.Item('video', video=tiny_unite.pixels(2, 32, 64, 4)))


def with_words(tokenizer):
  """The tokenizer, where each of WORDS alone is a token."""
  ids = {word: [330 + i] for i, word in enumerate(WORDS)}
  return tokenizer._replace(
      encode=lambda text: ids.get(text) or tokenizer.encode(text))


def one_device():
  return sharding.make_mesh(devices=jax.devices()[:1])


@functools.cache
def qwen3_vl_params():
  """Of tiny_qwen3_vl, larger, so that scores differ."""
  return jax.tree.map(lambda leaf: np.asarray(leaf) * (2 + leaf.ndim // 2),
                      tiny_qwen3_vl.params())


def qwen3_vl(mesh=None, max_tokens=10240, **options):
  reader = qwen3_vl_pairs.PairReader(
      with_words(tiny_unite.tokenizer()), tiny_qwen3_vl.RESOLUTION, max_tokens)
  return reranker.Reranker(tiny_qwen3_vl.CONFIG, qwen3_vl_params(), reader,
                           mesh or one_device(), **options)


@functools.cache
def qwen2_vl():
  made = tiny_generators.qwen2_vl()
  reader = qwen2_vl_pairs.open_reader(
      made.config, with_words(tiny_generators.tokenizer()),
      resolution=tiny_generators.RESOLUTION)
  return reranker.Reranker(made.config, made.params, reader, one_device())


def whole_pairs(model, queries, candidates, instruction=None, frame=None):
  """Log odds [Q, C] of pairs, each a whole prompt of its own."""
  read, frame = model.reader, frame or model.frame
  inputs = [read(embedder.as_item(query, q, 'query'),
                 embedder.as_item(candidate, c, 'candidate'), instruction,
                 frame) for q, query in enumerate(queries)
            for c, candidate in enumerate(candidates)]
  batch = read.pad(inputs, inputs_lib.common_shape(map(read.bucket, inputs)))
  found = _compiled(model.config)(
      model.params, batch, np.array(read.words(frame)))
  return np.reshape(found, (len(queries), -1))


@functools.cache
def _compiled(config):
  return jax.jit(functools.partial(reranking.log_odds_of_pairs, config))
