"""A run with a model that continues prompts, trained or scored as it is.

`model.backbone` names its kind. Trained, it has a visual head and both
likelihoods, as BLiM's own model has. As it is (`eval.zero_shot`), text to video
ranks by P(text | item), video to text by the same less the prior (CPN).
"""
import functools
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxret import (
  checkpoint,
  generator,
  loading,
  optim,
  sharding,
  training_plan,
)
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.methods import base
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import first_stage as first_stage_lib
from jaxret.methods.blim import (
  phases,
  prompted,
  prompted_method,
  prompted_videos,
)
from jaxret.methods.blim import results as results_lib
from jaxret.methods.blim import scores as scores_lib
from jaxret.models import names

BACKBONES = 'qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'  # names of their configs


class Scorer(NamedTuple):
  """As base.Scorer, of a Generator; inputs: see evaluator.inputs."""
  model: generator.Generator
  inputs: functools.partial


class Scoring(NamedTuple):
  """What results.write takes of a Method."""
  scorer: Scorer


class RunData(NamedTuple):
  """The splits of a run, all {name of split: ...}; see blim.run.RunData."""
  whole: dict
  splits: dict
  frames: dict


def train_and_evaluate(config, workdir):
  """Trains a visual head, and LoRA, on `model.pretrained`; evaluates both.

  config: checked.
  """
  mesh = run_lib.open_workdir(config, workdir)
  phases.begin(config, phases.READING)
  data = RunData(*features_lib.open_splits(
      config, workdir, ('train', *config.eval.splits)))
  # Before anything is loaded: fewer examples than devices, say.
  training_plan.make_plan(config.train, len(data.splits['train'].texts), mesh)
  found = prompted_method.backbone(config)
  method = prompted_method.method(config, found)
  _check_prompts(config, found.reader, data.splits)
  params = train_lib.init_params(method, config.seed, mesh)
  model = generator.Generator(found.sizes, params, found.reader, mesh)
  features = _features(config, workdir, data.splits, model)
  examples = method.examples(data.splits['train'], features['train'])
  phases.begin(config, phases.TRAINING)
  params = train_lib.fit(
      method, examples, config, workdir, mesh, model.params)
  _export(config, workdir, method, found, params)
  return _evaluate(config, workdir, generator.Generator(
      found.sizes, params, found.reader, mesh), data, features)


def evaluate(config, workdir):
  """Evaluates what was trained here, or a model as it is; config: checked."""
  mesh = run_lib.open_workdir(config, workdir)
  if not config.eval.zero_shot and not run_lib.has_checkpoints(workdir):
    raise ValueError(f'{workdir} holds no checkpoints: train there first, or '
                     'set eval.zero_shot=True to score the model as it is')
  phases.begin(config, phases.READING)
  data = RunData(*features_lib.open_splits(
      config, workdir, config.eval.splits))
  if config.eval.zero_shot:
    return _evaluate(config, workdir, open_model(config, mesh), data, None)
  model = open_trained(config, workdir, mesh)
  return _evaluate(config, workdir, model, data, _features(
      config, workdir, data.splits, model))


def open_trained(config, workdir, mesh):
  """The Generator of what a workdir has trained, LoRA and head apart."""
  found = prompted_method.backbone(config)
  method = prompted_method.method(config, found)
  train_lib.trained_steps(workdir)  # before the base is read
  return generator.Generator(
      found.sizes, train_lib.restore_trained(method, config, workdir, mesh),
      found.reader, mesh)


def open_merged(config, workdir, mesh):
  """(sizes, parameters, Reader) of a workdir's model, to continue prompts.

  What LoRA trained is folded in; the visual head, which writes nothing, is
  left out. Untrained it is as `model.pretrained` has it.
  """
  if not run_lib.has_checkpoints(workdir):
    model = open_model(_zero_shot(config), mesh)
    return model.config, model.params, model.reader
  model = open_trained(config, workdir, mesh)
  params = dict(base.merged(config, model.params)['params'])
  params.pop('visual_head')
  return model.config, {'params': params}, model.reader


class Opened(NamedTuple):
  """The model of a run, open. workdir: where it was trained; None = zero-shot,
  by the weights of `chosen`."""
  config: ConfigDict
  workdir: str | None
  model: generator.Generator
  chosen: scores_lib.Chosen

  def in_8_bits(self, kind: str = 'int8') -> 'Opened':
    """The same with its layers in 8 bits; see Generator.in_8_bits."""
    return self._replace(model=self.model.in_8_bits(kind))


def opened(model, mesh):
  """The Opened of a run or a config, the Generator of what is none of these.

  A workdir that holds no checkpoints, and a config, is scored zero-shot.
  """
  config, workdir = model, None
  if isinstance(model, Opened):
    open_model(model.model, mesh)  # refuses another mesh
    return model
  if not isinstance(model, (ConfigDict, generator.Generator)) and (
      loading.is_workdir(model)):
    config, workdir = checkpoint.read_config(model), str(model)
  if not isinstance(config, ConfigDict) or config.method != 'blim':
    return open_model(model, mesh)
  if workdir and run_lib.has_checkpoints(workdir):
    return Opened(config, workdir, open_trained(
        config, workdir, mesh or sharding.make_mesh(config.mesh)),
                  scores_lib.chosen(config, workdir))
  config = _zero_shot(config)
  return Opened(config, None, open_model(config, mesh),
                scores_lib.chosen(config, workdir))


def library_inputs(model, mesh, split, instruction, prior, **stage):
  """(prompted.Inputs, the scores_lib.Chosen that ranks) of a library call.

  Args:
    model, mesh, instruction, prior: as score_matrix takes them; of a run and a
      config the latter two are by default its own.
    split: of the Items. stage: first_stage and topk, see prompted.inputs.
  """
  found = opened(model, mesh)
  if not isinstance(found, Opened):
    return prompted.inputs(found, split, instruction, prior or 'mask', **stage
                           ), scores_lib.Chosen(prompted.WEIGHTS, 'paper')
  config, features = found.config, None
  instruction = instruction or config.eval.instruction or None
  if found.workdir:
    features = prompted_videos.extract_all(config, [
        prompted.shown_of(item, instruction) for item in split.videos],
                                           found.model)
  return prompted.inputs(
      found.model, split, instruction, prior or config.eval.prior,
      features=features, **stage, max_tokens=config.data.max_caption_tokens
      ), found.chosen


def _zero_shot(config):
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.task, config.eval.zero_shot = 'evaluate', True
  return config


def _check_prompts(config, reader, splits):
  """Raises ValueError for what cannot be read, before anything is trained."""
  for split in splits.values():
    prompted.measured(reader, _shown(config, split))
    for text in split.texts:
      prompted.labels_of(reader, text, config.data.max_caption_tokens)
    prompted_videos.requests(reader, split.texts)


def _features(config, workdir, splits, model):
  """{name of split: FeatureStore} of what the tower gives of the videos."""
  phases.begin(config, phases.FEATURES)
  return {name: prompted_videos.store(
      config, workdir, split, _shown(config, split), model)
          for name, split in splits.items()}


def _shown(config, split):
  """The Items of the prompts of a split's videos."""
  return [prompted.shown_of(video, config.eval.instruction or None)
          for video in split.videos]


def _export(config, workdir, method, found, params):
  """Writes what LoRA trained to adapter/, for PEFT."""
  if 'lora' in params:
    trained = optim.partition(params, method.trainable)[0].get('params', {})
    run_lib.export_adapter(
        config, workdir, params, names.newer(found.sizes.weights), trained)


def _evaluate(config, workdir, model, data, features):
  scorer = Scorer(model, functools.partial(
      _inputs, config, model, features is not None))
  return results_lib.write(
      config, workdir, model.mesh, Scoring(scorer), None, {
          name: results_lib.EvaluatedSplit(
              data.splits[name], features and features[name],
              data.frames[name], _first_stage(
                  config, data.whole[name], data.splits[name]))
          for name in config.eval.splits})


def _inputs(config, model, trained, split, features, **stage):
  return prompted.inputs(
      model, split, instruction=config.eval.instruction or None,
      prior=config.eval.prior, max_tokens=config.data.max_caption_tokens,
      features=features if trained else None, **stage)


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
  if config.task not in ('evaluate', 'train_and_evaluate'):
    raise ValueError(
        f'task {config.task!r} is not there for model.backbone = '
        f'{config.model.backbone!r}: use train_and_evaluate, or evaluate')
  if config.task != 'evaluate' and c.zero_shot:
    raise ValueError(
        'eval.zero_shot scores the model as it is, what is trained has no '
        "effect: set task='evaluate', or eval.zero_shot=False")
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
  """The Generator that a config or a path names, or the one given.

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
