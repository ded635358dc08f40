"""A whole run, from a config to a report; what `config.task` names."""
import pathlib
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxret import checkpoint, methods, sharding
from jaxret import evaluate as evaluate_lib
from jaxret import extract as extract_lib
from jaxret import train as train_lib
from jaxret.data import text
from jaxret.methods import dual_encoder


class Data(NamedTuple):
  """The splits of a run and what the vision tower makes of them.

  splits: {name: Split}; frames, features: {name: Visuals}, frames None where
  stored features came without media; tokenizer: as data.text gives it.
  first_stage: {name: {direction: [Q, C]}} or {}.
  """
  splits: dict
  frames: dict
  features: dict
  tokenizer: Any
  first_stage: dict


def train_and_evaluate(config, workdir):
  """Trains what `config.before` names, then the method, then evaluates it."""
  mesh = start(config, workdir)
  data = prepare(config, workdir, mesh, ('train', *config.eval.splits))
  method = methods.get(config.method).method(config, data.tokenizer)
  examples = method.examples(data.splits['train'], data.features['train'])
  logging.info('training %s on %d examples', method.name, len(examples))
  params = train_lib.fit(method, examples, config, workdir, mesh,
                         initial(config, method, mesh))
  return _evaluate(config, workdir, mesh, params, data)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or zero-shot weights."""
  mesh = start(config, workdir)
  data = prepare(config, workdir, mesh, config.eval.splits)
  method = methods.get(config.method).method(config, data.tokenizer)
  if (pathlib.Path(workdir) / 'checkpoints').is_dir():
    params = train_lib.restore_trained(method, config, workdir, mesh)
  else:
    params = initial(config, method, mesh)
    if params is None and method.load is None:
      raise ValueError(
          f'{workdir} holds no checkpoints and the config names no weights: '
          'train there first, or set model.pretrained or init_from')
    if params is None:
      params = train_lib.init_params(method, config.seed, mesh)
  return _evaluate(config, workdir, mesh, params, data)


def extract(config, workdir):
  """Stores the features of every split, and nothing more."""
  mesh = start(config, workdir)
  data = prepare(config, workdir, mesh, ('train', *config.eval.splits))
  for name, features in data.features.items():
    logging.info('%s: %d videos, features %s', name, len(features),
                 features.shape)


def start(config, workdir):
  """The mesh; the workdir becomes this config's own."""
  checkpoint.claim_workdir(workdir, config)
  mesh = sharding.make_mesh(config.mesh)
  logging.info('%d %s, mesh %s, workdir %s', jax.device_count(),
               jax.devices()[0].device_kind, dict(mesh.shape), workdir)
  return mesh


def initial(config, method, mesh):
  """Parameters of the run that `init_from` names, or None."""
  if not config.init_from:
    return None
  return train_lib.restore_trained(method, config, config.init_from, mesh)


def prepare(config, workdir, mesh, names):
  """Data of the named splits; trains the tower first if the config has one."""
  workdir = pathlib.Path(workdir)
  splits, frames, features, first_stage = {}, {}, {}, {}
  for name in dict.fromkeys(names):
    if extract_lib.has_stored_features(config):
      splits[name], features[name] = extract_lib.open_features(
          config, name, workdir)
    else:
      splits[name], frames[name] = extract_lib.load_split(
          config, name, workdir)
  tokenizer = load_tokenizer(config, workdir, splits)
  if frames:
    tower = None
    if 'tower' in config.before:
      stage, params = train_tower(
          config, workdir, mesh, tokenizer, splits, frames)
      tower = extract_lib.trained_tower(config, params)
      if config.eval.first_stage == 'tower':
        first_stage = {name: _similarity(
            stage, tokenizer, params, splits[name], frames[name])
            for name in config.eval.splits}
    else:
      tower = extract_lib.pretrained_tower(config, mesh)
    for name in frames:
      features[name] = extract_lib.store_features(
          config, workdir, splits[name], frames[name], tower)
  if config.eval.first_stage not in ('', 'tower'):
    first_stage = {name: evaluate_lib.first_stage_from_file(
        config, name, splits[name]) for name in config.eval.splits}
  return Data(splits, frames, features, tokenizer, first_stage)


def load_tokenizer(config, workdir, splits):
  """The tokenizer of the model, or a small one trained on the captions."""
  name = config.model.tokenizer or config.model.pretrained
  if name:
    return text.load_tokenizer(name)
  directory = workdir / 'tokenizer'
  if 'train' not in splits and not directory.is_dir():
    raise ValueError(f'{workdir} holds no tokenizer: train there first, or '
                     'set model.tokenizer')
  if directory.is_dir():
    return text.load_tokenizer(directory)
  captions = [item.text for item in splits['train'].texts]
  return text.train_tokenizer(captions, config.model.vocab_size, directory)


def train_tower(config, workdir, mesh, tokenizer, splits, frames):
  """(config, params) of the dual encoder, trained or as its workdir has it."""
  stage = ConfigDict({
      **config.tower.to_dict(), 'seed': config.seed,
      'data': config.data.to_dict(), 'vision': config.vision.to_dict()})
  directory = workdir / 'tower'
  method = methods.get(stage.method).method(stage, tokenizer)
  if 'train' not in splits:
    return stage, train_lib.restore_trained(method, stage, directory, mesh)
  examples = method.examples(splits['train'], frames['train'])
  logging.info('training the video tower on %d examples', len(examples))
  return stage, train_lib.fit(method, examples, stage, directory, mesh)


def _similarity(stage, tokenizer, params, split, frames):
  scores = dual_encoder.similarity(
      stage, tokenizer, params, split.texts, frames)
  return {'text_to_video': scores, 'video_to_text': scores.T}


def _evaluate(config, workdir, mesh, params, data):
  ready = {name: evaluate_lib.Ready(
      data.splits[name], data.features[name], data.frames.get(name),
      data.first_stage.get(name)) for name in config.eval.splits}
  return evaluate_lib.blim_results(
      config, workdir, mesh, params, data.tokenizer, ready)
