"""A Qwen2-VL that answers questions about videos, trained from scratch or not.

It learns as instruction tuning does: the loss is of the answers' tokens. A
share of the rows is read without what is seen, so that a model from scratch
also knows what language alone says, which a pretrained one brings along.
"""
import functools

import jax

from jaxret.data.qwen2_vl import continuations, pixels
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.methods import base
from jaxret.methods.answers import examples
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import answers as answers_lib
from jaxret.models.qwen2_vl import files
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen2_vl import vision as vision_lib

VISION_SIZES = ('width', 'layers', 'heads', 'mlp_width')
DECODER_SIZES = ('width', 'mlp_width', 'layers', 'heads', 'kv_heads',
                 'head_width', 'rope_theta', 'norm_eps', 'tie_embeddings')


def model_config(config, tokenizer):
  """The Qwen2VlConfig of a config; a checkpoint's own sizes come first."""
  m = config.model
  numerics = {'dtype': m.dtype, 'param_dtype': m.param_dtype, 'remat': m.remat,
              'attention': m.attention}
  if m.pretrained:
    return files.read_config(m.pretrained, 'mrope', **numerics).config
  decoder = decoder_lib.DecoderConfig(
      vocab_size=m.vocab_size or tokenizer.vocab_size,
      rope_sections=tuple(m.rope_sections),
      **{name: m[name] for name in DECODER_SIZES}, **numerics)
  vision = vision_lib.VisionConfig(
      out_width=m.width, **numerics,
      **{name: config.vision[name] for name in VISION_SIZES})
  return model_lib.Qwen2VlConfig(decoder, vision, 'mrope')


def reader(config, tokenizer, cache_bytes=0):
  """The continuations.Reader of a config, see jaxret.models."""
  return continuations.Reader(
      tokenizer, pixels.resolution(config.media), config.data.max_tokens,
      base.alpha(config),
      reader_lib.layout_of(model_config(config, tokenizer)), cache_bytes)


def method(config, tokenizer):
  """The Method of `config`; `tokenizer` as data.text.load_tokenizer returns.

  Its `examples` takes (data.questions.Questions, continuations.Reader).
  """
  model, load = model_config(config, tokenizer), None
  if config.model.pretrained:
    load = functools.partial(_load, config.model.pretrained, model)
  shape = config.data.shape
  return base.Method(
      name='answers', init=functools.partial(model_lib.init, model), load=load,
      loss=functools.partial(
          loss, model.module(), config.train.text_prior_share),
      examples=lambda asked, reader: examples.AnswerExamples(
          reader, asked, reader_lib.Shape(*shape) if shape else None),
      trainable=tuple(config.model.trainable),
      train_flops=functools.partial(answers_lib.train_flops, model),
      tokens=lambda batch: int(batch['length'].sum()))


def loss(module, prior_share, params, constants, batch, key):
  """Negative log-likelihood of the answers' tokens; see base.Method.

  prior_share: chance that a row is read without its media's keys, as
  log P(answer | question) is; without a key no row is.
  """
  del constants
  blind = None
  if prior_share and key is not None:
    blind = jax.random.bernoulli(key, prior_share, batch['length'].shape)
  return answers_lib.answer_loss(module, params, batch, blind), {}


def _load(directory, model, key, mesh):
  """Pretrained parameters with the output head, on the mesh."""
  del key
  return files.load(directory, model, mesh, generates=True)
