"""A tiny LLaVA-NeXT that learns to answer True or False: a reranker.

MM-Embed (arXiv 2411.02571) asks a published one; this one starts from a
trained embedder and learns from right and wrong candidates.
"""
import functools

from jaxret.data import rerank_examples
from jaxret.methods import base
from jaxret.models import decoder as decoder_lib
from jaxret.models import llava_next as model_lib


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

  reader: a data.rerank_inputs.Reader; words: the tokens of (True, False);
  shape: a data.rerank_inputs.Shape that prompts are padded to.
  """
  return base.Method(
      name='llava_next', init=functools.partial(model_lib.init, model),
      load=None, loss=functools.partial(loss, model),
      examples=functools.partial(
          rerank_examples.Examples, reader, words, shape),
      trainable=('.*',), train_flops=functools.partial(train_flops, model),
      tokens=lambda batch: int(batch['length'].sum()))


def loss(model, params, constants, batch, key):
  """-log P(the right word) over the whole vocabulary; see base.Method."""
  del constants
  return -model_lib.answer_log_likelihood(model, params, batch, key), {}


def train_flops(model, batch):
  """Minimal model FLOPs of a step; padding does not count."""
  read = sum(n * decoder_lib.flops_per_token(model.decoder)
             + decoder_lib.attention_flops(model.decoder, int(n))
             for n in batch['length'])
  crops = batch['pixels'].shape[1] * len(batch['length'])
  return 3 * (read + crops * model_lib.image_flops(model))
