"""UNITE in the layout of its backbone, as transformers loads it.

On Qwen3-VL also as sentence-transformers has Qwen3-VL-Embedding, whose prompt,
positions and pooling are those that it is trained with.
"""
import functools

from jaxret.data.qwen2_vl import prompts
from jaxret.data.qwen3_vl import prompts as qwen3_vl_prompts
from jaxret.methods import base
from jaxret.methods.unite import backbones
from jaxret.methods.unite import method as unite
from jaxret.models import pretrained as weights
from jaxret.models.qwen2_vl import saving
from jaxret.models.qwen3_vl import model as qwen3_vl
from jaxret.models.qwen3_vl import saving as qwen3_vl_saving

_SPECIAL = {'image': prompts.PADS['image'], 'video': prompts.PADS['video'],
            'vision_start': prompts.VISION_START,
            'vision_end': prompts.VISION_END}


def exported(config, tokenizer, params):
  """See base.Exported."""
  model = unite.model_config(config, tokenizer)
  pretrained, files, shapes = config.model.pretrained, {}, {}
  if not pretrained:  # a Qwen2-VL of our own
    special = {name: tokenizer.encode(token)[0]
               for name, token in _SPECIAL.items()}
    shapes = saving.shapes(model)
    files = {'config.json': saving.config_json(
        model, special, tokenizer.end_id),
             'preprocessor_config.json': saving.preprocessor_json(
                 model, config.media.processor)}
  return base.Exported(
      'transformers',
      {'': base.Part(model.weights, params['params'], pretrained, shapes)},
      files, options(config, model), model.name,
      also=_also(config, model))


def _also(config, model):
  if not isinstance(model, qwen3_vl.Qwen3VlConfig):
    return {}
  return {'sentence-transformers': functools.partial(
      qwen3_vl_saving.sentence_transformers,
      weights.find_model(config.model.pretrained), model.decoder.width,
      tuple(config.media.image), qwen3_vl_prompts.INSTRUCTION)}


def options(config, model):
  """What jaxret.load must be told to embed as the run does."""
  found = {'resolution': backbones.resolution(config),
           'max_tokens': config.data.max_tokens, 'alpha': base.alpha(config)}
  if isinstance(model, qwen3_vl.Qwen3VlConfig):
    return found
  return {**found, 'position_mode': model.position_mode,
          'pooling': model.pooling, 'prompt': backbones.template(config)}
