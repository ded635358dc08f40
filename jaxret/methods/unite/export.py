"""UNITE in the layout of its backbone, as transformers loads it."""
from jaxret.data.qwen2_vl import prompts
from jaxret.methods import base
from jaxret.methods.unite import backbones
from jaxret.methods.unite import method as unite
from jaxret.models.qwen2_vl import saving
from jaxret.models.qwen3_vl import model as qwen3_vl

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
      files, options(config, model), model.name)


def options(config, model):
  """What jaxret.load must be told to embed as the run does."""
  found = {'resolution': backbones.resolution(config),
           'max_tokens': config.data.max_tokens, 'alpha': base.alpha(config)}
  if isinstance(model, qwen3_vl.Qwen3VlConfig):
    return found
  return {**found, 'position_mode': model.position_mode,
          'pooling': model.pooling, 'prompt': backbones.template(config)}
