"""A whole run, from a config to a report; what `config.task` names."""
import pathlib
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from jaxret import methods
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.methods.blim import features as extract_lib
from jaxret.methods.blim import results as evaluate_lib
from jaxret.methods.blim import tower as dual_encoder
from jaxret.models import adapters
from jaxret.scoring.likelihood import score as likelihood


class Data(NamedTuple):
  """The splits of a run, ready to be seen.

  splits: {name: Split}; frames: {name: Visuals}; features: the same, of
  features that were stored elsewhere: there are no frames then; tokenizer: as
  data.text gives it.
  """
  splits: dict
  frames: dict
  features: dict
  tokenizer: Any


def train_and_evaluate(config, workdir):
  """Trains what `config.before` names, then the method, then evaluates it."""
  mesh, data, method = start(
      config, workdir, ('train', *config.eval.splits))
  # Before the tower is trained: a batch larger than the data, say.
  train_lib.make_plan(config.train, len(data.splits['train'].texts), mesh)
  features, first_stage = see(config, workdir, mesh, data)
  examples = method.examples(data.splits['train'], features['train'])
  logging.info('training %s on %d examples', method.name, len(examples))
  params = train_lib.fit(method, examples, config, workdir, mesh,
                         initial(config, method, mesh))
  if 'lora' in params:
    run_lib.export_adapter(
        config, workdir, params, adapters.BLIM,
        visual_head=params['params']['visual_head']['kernel'])
  return _evaluate(config, workdir, mesh, params, data, features, first_stage)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or zero-shot weights."""
  mesh, data, method = start(config, workdir, config.eval.splits)
  trained = run_lib.has_checkpoints(workdir)
  run_lib.check_weights(config, workdir, trained)
  features, first_stage = see(config, workdir, mesh, data)
  params = initial(config, method, mesh)
  if trained:
    params = train_lib.restore_trained(method, config, workdir, mesh, params)
  elif params is None:
    params = train_lib.init_params(method, config.seed, mesh)
  return _evaluate(config, workdir, mesh, params, data, features, first_stage)


def extract(config, workdir):
  """Stores the features of every split, and nothing more."""
  mesh, data, _ = start(config, workdir, ('train', *config.eval.splits))
  features, _ = see(config, workdir, mesh, data)
  for name, stored in features.items():
    logging.info('%s: %d videos, features %s', name, len(stored),
                 stored.shape)


def start(config, workdir, names):
  """(mesh, Data of the named splits, Method), all that can be checked checked.

  The workdir becomes this config's own. What is wrong is said here, before
  anything is trained or extracted.
  """
  check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  splits, frames, features = {}, {}, {}
  for name in dict.fromkeys(names):
    if extract_lib.has_stored_features(config):
      splits[name], features[name] = extract_lib.open_features(
          config, name, workdir)
    else:
      splits[name], frames[name] = extract_lib.load_split(
          config, name, workdir)
  tokenizer = run_lib.open_tokenizer(config, workdir, [
      item.text for item in splits['train'].texts]
                                         if 'train' in splits else None)
  method = methods.get(config.method).method(config, tokenizer)
  for split in splits.values():
    method.check(split.texts, extract_lib.feature_shape(config))
  return mesh, Data(splits, frames, features, tokenizer), method


def check_config(config):
  """Raises ValueError for fields that do not go together."""
  unknown = sorted(set(config.before) - {'tower'})
  if unknown:
    raise ValueError(f"before names {unknown[0]!r}: only 'tower' can be "
                     'trained before the method')
  if not config.eval.splits:
    raise ValueError("eval.splits is empty: name one at least, as ('test',)")
  methods.get(config.method)  # says so where there is no such method
  if config.method != 'blim':
    raise ValueError(f'method {config.method!r} has no evaluation here: only '
                     "'blim' gives the likelihoods that a run reports")
  if config.eval.mode not in likelihood.MODES:
    raise ValueError(f'eval.mode is {config.eval.mode!r}: use one of '
                     f'{", ".join(likelihood.MODES)}')
  if config.eval.mode == 'reference' and (
      config.eval.topk or config.eval.zero_shot):
    raise ValueError("eval.mode 'reference' scores all pairs in both "
                     'directions: set eval.topk=0 and eval.zero_shot=False')
  if config.eval.topk and not config.eval.first_stage:
    raise ValueError(
        f'eval.topk is {config.eval.topk}, but eval.first_stage is not set: '
        "set it to 'tower' or an .npz file, or eval.topk=0 to score all pairs")
  if config.eval.first_stage == 'tower' and (
      'tower' not in config.before or extract_lib.has_stored_features(config)):
    raise ValueError(
        "eval.first_stage is 'tower', but no tower is trained here "
        '(before is empty, or the features were stored elsewhere): give an '
        '.npz file')


def initial(config, method, mesh):
  """Parameters of the run that `init_from` names, or None."""
  if not config.init_from:
    return None
  return train_lib.restore_trained(method, config, config.init_from, mesh)


def see(config, workdir, mesh, data):
  """What a tower makes of the videos, trained first if the config has one.

  Returns (features, first_stage): {name of split: Visuals} and {name of split
  that is evaluated: {direction: [Q, C]}}, the latter {} if there is none.
  """
  first_stage = {}
  if config.eval.first_stage not in ('', 'tower'):
    first_stage = {name: evaluate_lib.first_stage_from_file(
        config, name, data.splits[name]) for name in config.eval.splits}
  if data.features:
    return data.features, first_stage
  if 'tower' in config.before:
    stage, params = train_tower(config, workdir, mesh, data)
    tower = extract_lib.trained_tower(config, params)
    if config.eval.first_stage == 'tower':
      first_stage = {name: _similarity(stage, params, data, name)
                     for name in config.eval.splits}
  else:
    tower = extract_lib.pretrained_tower(config, mesh)
  features = {name: extract_lib.store_features(
      config, workdir, data.splits[name], data.frames[name], tower)
      for name in data.frames}
  return features, first_stage


def train_tower(config, workdir, mesh, data):
  """(config, params) of the dual encoder, trained or as its workdir has it."""
  stage = ConfigDict({
      **config.tower.to_dict(), 'seed': config.seed,
      'data': config.data.to_dict(), 'vision': config.vision.to_dict()})
  method = dual_encoder.method(stage, data.tokenizer)
  directory = pathlib.Path(config.init_from or workdir) / 'tower'
  if config.init_from or 'train' not in data.splits:
    return stage, train_lib.restore_trained(method, stage, directory, mesh)
  examples = method.examples(data.splits['train'], data.frames['train'])
  logging.info('training the video tower on %d examples', len(examples))
  return stage, train_lib.fit(method, examples, stage, directory, mesh)


def _similarity(stage, params, data, name):
  scores = dual_encoder.similarity(
      stage, data.tokenizer, params, data.splits[name].texts,
      data.frames[name])
  return {'text_to_video': scores, 'video_to_text': scores.T}


def _evaluate(config, workdir, mesh, params, data, features, first_stage):
  ready = {name: evaluate_lib.Ready(
      data.splits[name], features[name], data.frames.get(name),
      first_stage.get(name)) for name in config.eval.splits}
  return evaluate_lib.blim_results(
      config, workdir, mesh, params, data.tokenizer, ready)
