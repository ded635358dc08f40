"""The Method of a reranker: loss by hand, what it costs, where it starts."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.methods.mm_embed import reranker
from jaxret.models import clip, encoder
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import latent_attention, mm_embed
from jaxret.models.llava import model as model_lib

DECODER = decoder_lib.DecoderConfig(
    vocab_size=50, width=16, mlp_width=24, layers=3, heads=4, kv_heads=2,
    head_width=4, tie_embeddings=True)
EMBEDDER = mm_embed.MmEmbedConfig(
    DECODER, clip.ClipVisionConfig(encoder.EncoderConfig(16, 24, 2, 2), 8, 4),
    latent_attention.LatentConfig(16, 4, 2, 8))
CONFIG = reranker.model_config(EMBEDDER)


def test_loss_is_that_of_a_plain_loop(monkeypatch):
  odds = np.array([[2.0, -1.0, 0.5], [0.25, 0.25, -3.0], [-20.0, 30.0, 0.0]])
  monkeypatch.setattr(model_lib, 'log_odds', lambda *given: jnp.asarray(
      odds, jnp.float32))
  value, numbers = reranker.loss(CONFIG, np.array([1, 2]), {}, {}, {}, None)
  for q, (right, *wrong) in enumerate(odds):
    def p(x):
      return 1 / (1 + math.exp(-x))
    choice = math.exp(right) / sum(math.exp(x) for x in odds[q])
    answers = math.log(p(right)) / 2 + sum(
        math.log(p(-x)) for x in wrong) / len(wrong) / 2
    assert value[q] == pytest.approx(-math.log(choice) - answers, rel=1e-5)
  # The second query's first two are equal: that is not found.
  assert numbers['right_first'] == pytest.approx(1 / 3)


def batch(lengths, suffixes, shared_crops=1, own_crops=2):
  """As data.llava.questions pads groups, of tokens that are never read."""
  suffixes = np.array(suffixes)
  def crops(*shape):
    return np.zeros((*shape, 8, 8, 3), np.uint8)
  return {'length': np.array(lengths), 'suffix_length': suffixes,
          'pixels': crops(len(lengths), shared_crops),
          'suffix_pixels': crops(*suffixes.shape, own_crops)}


def test_flops_are_of_tokens_and_crops_that_are_there():
  """Token by token: each reads itself and all that is before it."""
  def tokens(start, end):
    return sum(decoder_lib.flops_per_token(DECODER)
               + 4 * 3 * 4 * 4 * (place + 1) for place in range(start, end))
  lengths, suffixes = [5, 9], [[1, 4, 2], [3, 3, 8]]
  want = sum(
      tokens(0, shared) + sum(tokens(shared, shared + one) for one in rest)
      for shared, rest in zip(lengths, suffixes))
  want += (2 * 1 + 2 * 3 * 2) * model_lib.image_flops(CONFIG)
  assert reranker.train_flops(CONFIG, batch(lengths, suffixes)) == 3 * want


def test_method_counts_tokens_and_trains_everything():
  method = reranker.method(CONFIG, None, (1, 2), None)
  assert method.tokens(batch([5, 9], [[1, 4, 2], [3, 3, 8]])) == 14 + 21
  assert method.train_flops(batch([5], [[1]])) == reranker.train_flops(
      CONFIG, batch([5], [[1]]))
  assert method.trainable == ('.*',) and method.load is None


def test_training_starts_from_all_that_the_embedder_shares():
  """Nothing of the reranker is lacking or too much, and nothing is copied."""
  embedder = jax.eval_shape(
      functools.partial(mm_embed.init, EMBEDDER), jax.random.key(0))
  started = reranker.start(embedder)
  own = jax.eval_shape(
      reranker.method(CONFIG, None, (1, 2), None).init, jax.random.key(0))
  assert 'latent_attention' in embedder['params']
  assert jax.tree.map(lambda x: (x.shape, x.dtype), started) == jax.tree.map(
      lambda x: (x.shape, x.dtype), own)
  assert started['params']['decoder'] is embedder['params']['decoder']
