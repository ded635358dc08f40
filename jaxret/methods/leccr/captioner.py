"""A small Qwen2-VL that learns to describe, where none is to be downloaded.

It stands in for the MLLM whose descriptions LECCR reads, and runs through the
same code.
"""
import functools

from jaxret import models
from jaxret.data.qwen2_vl import pixels
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.methods import base
from jaxret.methods.leccr import caption_examples
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import answers as answers_lib
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen2_vl import vision as vision_lib

VISION_SIZES = ('width', 'layers', 'heads', 'mlp_width')
DECODER_SIZES = ('width', 'mlp_width', 'layers', 'heads', 'kv_heads',
                 'head_width', 'rope_theta', 'norm_eps', 'tie_embeddings')


def model_config(config, tokenizer):
  """The Qwen2VlConfig of a config; a checkpoint's own sizes come first."""
  m = config.model
  numerics = {'dtype': m.dtype, 'param_dtype': m.param_dtype,
              'attention': m.get('attention', 'xla')}
  if m.pretrained:
    return models.files_of(m.pretrained).read_config(
        m.pretrained, 'mrope', **numerics).config
  decoder = decoder_lib.DecoderConfig(
      vocab_size=tokenizer.vocab_size, rope_sections=tuple(m.rope_sections),
      **{name: m[name] for name in DECODER_SIZES}, **numerics)
  vision = vision_lib.VisionConfig(
      out_width=m.width, **numerics,
      **{name: config.vision[name] for name in VISION_SIZES})
  return model_lib.Qwen2VlConfig(decoder, vision, 'mrope')


def reader(config, tokenizer, cache_bytes=0):
  """The CaptionReader of a config: its media, questions and max_tokens."""
  return caption_examples.CaptionReader(
      tokenizer, pixels.resolution(config.media), config.questions,
      config.max_tokens, cache_bytes,
      reader_lib.layout_of(model_config(config, tokenizer)))


def shape(config):
  """The reader.Shape that all media and texts are padded to, or None."""
  return reader_lib.Shape(*config.shape) if config.shape else None


def method(config, tokenizer):
  """The Method of `config`; `tokenizer` as data.text.load_tokenizer returns."""
  model = model_config(config, tokenizer)
  return base.Method(
      name='captioner', init=functools.partial(model_lib.init, model),
      load=None, loss=functools.partial(loss, model.module()),
      examples=lambda split, cache_bytes=0: caption_examples.CaptionExamples(
          reader(config, tokenizer, cache_bytes), split, shape(config)),
      trainable=('.*',),
      train_flops=functools.partial(answers_lib.train_flops, model),
      tokens=lambda batch: int(batch['length'].sum()))


def loss(module, params, constants, batch, key):
  """Negative log-likelihood of the answers' tokens; see base.Method.

  Its mean over the batch is that over all of these tokens. batch: as
  caption_examples.CaptionExamples gives it.
  """
  del constants, key
  return answers_lib.answer_loss(module, params, batch), {}
