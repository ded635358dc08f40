"""A tiny LLaVA-NeXT that learns to answer True or False: a reranker.

MM-Embed (arXiv 2411.02571) asks a published one; this one starts from a
trained embedder and learns from right and wrong candidates.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxret.methods import base
from jaxret.methods.mm_embed import rerank_examples
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import model as model_lib


def model_config(embedder):
  """The LlavaNextConfig with the sizes of a MmEmbedConfig."""
  return model_lib.LlavaNextConfig(embedder.decoder, embedder.vision)


def start(embedder_params):
  """Where training starts: the embedder's parameters that it shares."""
  return {'params': {name: part for name, part in
                     embedder_params['params'].items()
                     if name != 'latent_attention'}}


def method(model, reader, words, shape):
  """The Method that trains `model`, a LlavaNextConfig.

  reader: a data.llava.questions.Reader; words: the tokens of (True, False);
  shape: a data.llava.questions.Shape that groups are padded to.
  """
  return base.Method(
      name='llava_next', init=functools.partial(model_lib.init, model),
      load=None, loss=functools.partial(loss, model, np.asarray(words)),
      examples=functools.partial(rerank_examples.Examples, reader, shape),
      trainable=('.*',), train_flops=functools.partial(train_flops, model),
      tokens=lambda batch: int(
          batch['length'].sum() + batch['suffix_length'].sum()))


def loss(model, words, params, constants, batch, key):
  """How surprising the right answers are; see base.Method.

  Of each query the first candidate is right: -log of its share in the odds of
  all, and the mean of -log P(the right word), half of it the first one's.
  """
  del constants
  odds = model_lib.log_odds(model, params, batch, words, key)
  choice = -jax.nn.log_softmax(odds, -1)[:, 0]
  answers = -(jax.nn.log_sigmoid(odds[:, 0])
              + jax.nn.log_sigmoid(-odds[:, 1:]).mean(1)) / 2
  first = (odds[:, :1] > odds[:, 1:]).all(1).mean(dtype=jnp.float32)
  return choice + answers, {'right_first': first}


def train_flops(model, batch):
  """Minimal model FLOPs of a step; padding does not count."""
  def read(n):
    return (n * decoder_lib.flops_per_token(model.decoder)
            + decoder_lib.attention_flops(model.decoder, int(n)))
  shared, rest = batch['length'][:, None], batch['suffix_length']
  total = sum(map(read, shared.ravel())) + sum(
      map(read, (shared + rest).ravel())) - sum(
          read(n) for n in np.broadcast_to(shared, rest.shape).ravel())
  crops = sum(batch[name].size // batch[name].shape[-1] // (
      model.vision.image_px ** 2) for name in ('pixels', 'suffix_pixels'))
  return 3 * (total + crops * model_lib.image_flops(model))
