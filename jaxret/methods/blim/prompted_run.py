"""A run that evaluates a model which continues prompts, as it is: zero-shot.

`model.backbone` names its kind. Text to video ranks by P(text | item), video
to text by the same less the prior (CPN); there is nothing to train.
"""
import functools
from typing import NamedTuple

from jaxret import generator, loading
from jaxret import run as run_lib
from jaxret.methods import base
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import first_stage as first_stage_lib
from jaxret.methods.blim import prompted
from jaxret.methods.blim import results as results_lib

BACKBONES = 'qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'  # names of their configs


class Scorer(NamedTuple):
  """As base.Scorer, of a Generator; inputs: see evaluator.inputs."""
  model: generator.Generator
  inputs: functools.partial


class Scoring(NamedTuple):
  """What results.write takes of a Method."""
  scorer: Scorer


def evaluate(config, workdir):
  """Evaluates the model that `model.pretrained` names; config: checked."""
  mesh = run_lib.open_workdir(config, workdir)
  whole, splits, frames = features_lib.open_splits(
      config, workdir, config.eval.splits)
  model = open_model(config, mesh)
  scorer = Scorer(model, functools.partial(
      prompted.inputs, model, instruction=config.eval.instruction or None,
      prior=config.eval.prior, max_tokens=config.data.max_caption_tokens))
  return results_lib.write(config, workdir, mesh, Scoring(scorer), None, {
      name: results_lib.EvaluatedSplit(
          split, frames[name], frames[name], _first_stage(
              config, whole[name], split)) for name, split in splits.items()})


def _first_stage(config, whole, split):
  return first_stage_lib.from_file(config, whole, split) if (
      config.eval.first_stage) else None


def is_chosen(config):
  """Whether a config names a model that continues prompts."""
  # Configs of old work directories have no such field.
  return config.model.get('backbone', 'blim') != 'blim'


def check(config):
  """Raises ValueError for fields that do not go together, or do nothing."""
  c = config.eval
  if config.model.backbone not in BACKBONES:
    raise ValueError(f'model.backbone is {config.model.backbone!r}: use blim, '
                     f'or one of {", ".join(BACKBONES)}')
  if config.task != 'evaluate' or not c.zero_shot:
    raise ValueError(
        f'model.backbone is {config.model.backbone!r}, which is scored as it '
        "is: set task='evaluate' and eval.zero_shot=True")
  if not config.model.pretrained:
    raise ValueError('the config names no weights: set model.pretrained')
  without_effect = {
      'before': config.before, 'init_from': config.init_from,
      'data.features': config.data.features,
      'data.limit_s': config.data.limit_s, 'eval.exact_topk': c.exact_topk,
      'model.tokenizer': config.model.tokenizer,
      "eval.mode other than 'shared'": c.mode != 'shared',
      'eval.invariant': c.get('invariant', False),
      "eval.first_stage of BLiM's": c.first_stage in (
          'tower', first_stage_lib.CLIP),
      'eval.nonzero_denominator': c.nonzero_denominator,
      "model.attention other than 'xla'": config.model.attention != 'xla',
      'a model.param_dtype that is not model.dtype':
          config.model.dtype != config.model.param_dtype}
  for name, is_set in without_effect.items():
    if is_set:
      raise ValueError(f'{name} has no effect with model.backbone = '
                       f'{config.model.backbone!r}: leave it out')


def open_model(model, mesh):
  """The Generator that a config, a path or a workdir names, or the one given.

  Raises ValueError for a model of another kind, or one on another mesh.
  """
  if isinstance(model, generator.Generator):
    if mesh is not None and mesh != model.mesh:
      raise ValueError('mesh: the Generator lives on another one; give it to '
                       'jaxret.load_generator')
    return model
  if hasattr(model, 'model'):  # a config
    check(model)
    opened = prompted.opened(model.model.pretrained, mesh, **_options(model))
    if opened.config.name != model.model.backbone:
      raise ValueError(
          f'model.pretrained {model.model.pretrained} is a '
          f'{opened.config.name}: set model.backbone={opened.config.name!r}')
    return opened
  if loading.is_workdir(model):
    return loading.load_generator(model, mesh=mesh)
  return prompted.opened(model, mesh)


def _options(config):
  """Of loading.load_generator; what is as by default may not be known there."""
  alpha = base.alpha(config)
  return {'dtype': config.model.dtype} | (
      {} if alpha == 'white' else {'alpha': alpha})
