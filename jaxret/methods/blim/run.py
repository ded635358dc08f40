"""A whole run, from a config to a report; what `config.task` names."""
import pathlib
from typing import NamedTuple

from absl import logging
from ml_collections import ConfigDict

from jaxret import methods, optim, training_plan
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.data import text, types
from jaxret.data.videochat import prompts
from jaxret.methods.blim import (
  cascade,
  evaluator,
  phases,
  prompted_run,
  search_results,
)
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import first_stage as first_stage_lib
from jaxret.methods.blim import results as results_lib
from jaxret.methods.blim import tower as tower_lib
from jaxret.models import adapters
from jaxret.scoring.likelihood import score as likelihood


class RunData(NamedTuple):
  """The splits of a run, ready to be seen; all but one {name of split: ...}.

  whole: as the data set's files have them. splits: less what cannot be used.
  frames: Visuals. features: the same, of features that were stored elsewhere:
  there are no frames then.
  """
  whole: dict[str, types.Split]
  splits: dict[str, types.Split]
  frames: dict[str, types.Visuals]
  features: dict[str, types.Visuals]
  tokenizer: text.Tokenizer


def train_and_evaluate(config, workdir):
  """Trains what `config.before` names, then the method, then evaluates it."""
  if prompted_run.is_chosen(config):
    check_config(config)
    return prompted_run.train_and_evaluate(config, workdir)
  mesh, data, method = start(
      config, workdir, ('train', *config.eval.splits))
  # Before the tower is trained: fewer examples than devices, say.
  training_plan.make_plan(config.train, len(data.splits['train'].texts), mesh)
  features, first_stage = see(config, workdir, mesh, data)
  examples = method.examples(data.splits['train'], features['train'])
  phases.begin(config, phases.TRAINING)
  params = train_lib.fit(method, examples, config, workdir, mesh,
                         initial(config, method, mesh))
  if 'lora' in params:
    trained = optim.partition(params, method.trainable)[0].get('params', {})
    trained.pop('visual_head', None)
    run_lib.export_adapter(
        config, workdir, params, adapters.BLIM, trained,
        visual_head=params['params']['visual_head']['kernel'])
  return _evaluate(config, workdir, mesh, method, params, data, features,
                   first_stage)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or zero-shot weights."""
  if prompted_run.is_chosen(config):
    check_config(config)
    return prompted_run.evaluate(config, workdir)
  mesh, data, method = start(config, workdir, config.eval.splits)
  trained = run_lib.has_checkpoints(workdir)
  run_lib.check_weights(config, workdir, trained)
  features, first_stage = see(config, workdir, mesh, data)
  params = parameters(config, method, mesh, workdir if trained else None)
  return _evaluate(config, workdir, mesh, method, params, data, features,
                   first_stage)


def extract(config, workdir):
  """Stores the features of every split, and nothing more."""
  mesh, data, _ = start(config, workdir, ('train', *config.eval.splits))
  features, _ = see(config, workdir, mesh, data)
  for name, stored in features.items():
    logging.info('%s: %d videos, features %s', name, len(stored),
                 stored.shape)


def start(config, workdir, names):
  """(mesh, RunData of the named splits, Method), all checked that can be.

  The workdir becomes this config's own. What is wrong is said here, before
  anything is trained or extracted.
  """
  check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  phases.begin(config, phases.READING)
  stored = features_lib.has_stored_features(config)
  whole, splits, visuals = features_lib.open_splits(config, workdir, names)
  tokenizer = run_lib.open_tokenizer(
      config, workdir, [item.text for item in splits['train'].texts]
      if 'train' in splits else None, template=prompts.TEMPLATE)
  method = methods.get(config.method).method(config, tokenizer)
  if method.scorer is None:
    raise ValueError(f'method {config.method!r} has no evaluation here: its '
                     'Method has no scorer, whose likelihoods a run reports')
  for split in splits.values():
    method.check(split.texts, features_lib.feature_shape(config))
  return mesh, RunData(whole, splits, {} if stored else visuals,
                       visuals if stored else {}, tokenizer), method


def check_config(config):
  """Raises ValueError for fields that do not go together."""
  if prompted_run.is_chosen(config):
    prompted_run.check(config)
  unknown = sorted(set(config.before) - {'tower'})
  if unknown:
    raise ValueError(f"before names {unknown[0]!r}: only 'tower' can be "
                     'trained before the method')
  if not config.eval.splits:
    raise ValueError("eval.splits is empty: name one at least, as ('test',)")
  methods.get(config.method)  # says so where there is no such method
  if config.eval.mode not in likelihood.MODES:
    raise ValueError(f'eval.mode is {config.eval.mode!r}: use one of '
                     f'{", ".join(likelihood.MODES)}')
  if config.eval.mode == 'reference' and (
      config.eval.topk or config.eval.agreement or config.eval.zero_shot):
    raise ValueError("eval.mode 'reference' scores all pairs in both "
                     'directions: set eval.topk=0, eval.agreement=0 and '
                     'eval.zero_shot=False')
  # Configs of old work directories have no such fields.
  if config.eval.get('invariant', False):
    _check_invariant(config.eval)
  if config.eval.get('exact_topk', 0):
    _check_search(config.eval)
  cascade.check(config)
  if config.eval.first_stage == 'tower' and (
      'tower' not in config.before or features_lib.has_stored_features(config)):
    raise ValueError(
        "eval.first_stage is 'tower', but no tower is trained here "
        '(before is empty, or the features were stored elsewhere): give an '
        '.npz file')


def _check_invariant(c):
  """The same of scores whose tiles have fixed shapes; c: config.eval."""
  for name, used in (
      ('eval.topk', c.topk), ('eval.agreement', c.agreement),
      ('eval.exact_topk', c.get('exact_topk', 0)),
      ("eval.mode='reference'", c.mode == 'reference')):
    if used:
      raise ValueError(f'eval.invariant=True has no tiles for {name}: leave '
                       'one of them out')


def _check_search(c):
  """The same of a search for the best k; c: config.eval."""
  others = {'eval.topk': c.topk, 'eval.agreement': c.agreement,
            'eval.first_stage': c.first_stage,
            'eval.trec_depth': c.trec_depth,
            "eval.mode='reference'": c.mode == 'reference'}
  for name, is_set in others.items():
    if is_set:
      raise ValueError(f'eval.exact_topk is {c.exact_topk}, a search that '
                       f'scores few pairs, which {name} does not go with: '
                       'leave one of them out')
  unknown = set(c.exact_directions) - set(evaluator.DIRECTIONS)
  if unknown or not c.exact_directions or c.exact_topk < 0:
    raise ValueError(
        f'eval.exact_topk is {c.exact_topk}, eval.exact_directions '
        f'{tuple(c.exact_directions)}: want 1 or more, and one or both of '
        f'{evaluator.DIRECTIONS}')
  if c.bound_slack < 0:
    raise ValueError(f'eval.bound_slack is {c.bound_slack}: want 0 or more')


def initial(config, method, mesh):
  """Parameters of the run that `init_from` names, or None."""
  if not config.init_from:
    return None
  return train_lib.restore_trained(method, config, config.init_from, mesh)


def parameters(config, method, mesh, trained):
  """What the workdir `trained` has; without one, what a run begins with."""
  params = initial(config, method, mesh)
  if trained:
    return train_lib.restore_trained(method, config, trained, mesh, params)
  if params is None:
    return train_lib.init_params(method, config.seed, mesh)
  return params


def see(config, workdir, mesh, data):
  """What a tower makes of the videos, trained first if the config has one.

  Returns (features, first_stage): {name of split: Visuals} and {name of split
  that is evaluated: {direction: [Q, C]}}, the latter {} if there is none.
  """
  first_stage = {}
  if config.eval.first_stage not in ('', 'tower', first_stage_lib.CLIP):
    first_stage = {name: first_stage_lib.from_file(
        config, data.whole[name], data.splits[name])
                   for name in config.eval.splits}
  if data.features:
    return data.features, first_stage
  if 'tower' in config.before:
    stage, params = train_tower(config, workdir, mesh, data)
    tower = features_lib.trained_tower(config, params)
    if config.eval.first_stage == 'tower':
      first_stage = {name: first_stage_lib.from_tower(
          stage, data.tokenizer, params, data.splits[name], data.frames[name])
                     for name in config.eval.splits}
  else:
    tower = features_lib.pretrained_tower(config, mesh)
  phases.begin(config, phases.FEATURES)
  features = {name: features_lib.store_features(
      config, workdir, data.splits[name], data.frames[name], tower)
      for name in data.frames}
  return features, first_stage


def train_tower(config, workdir, mesh, data):
  """(config, params) of the dual encoder, trained or as its workdir has it."""
  if config.init_from or 'train' not in data.splits:
    return open_tower(config, workdir, mesh, data.tokenizer)
  stage, method = _tower(config, data.tokenizer)
  examples = method.examples(data.splits['train'], data.frames['train'])
  phases.begin(config, phases.TOWER)
  return stage, train_lib.fit(
      method, examples, stage, pathlib.Path(workdir) / 'tower', mesh)


def open_tower(config, workdir, mesh, tokenizer):
  """(config, params) of a dual encoder that was trained before."""
  stage, method = _tower(config, tokenizer)
  directory = pathlib.Path(config.init_from or workdir) / 'tower'
  return stage, train_lib.restore_trained(method, stage, directory, mesh)


def _tower(config, tokenizer):
  """(its config, its Method)."""
  stage = ConfigDict({
      **config.tower.to_dict(), 'seed': config.seed,
      'data': config.data.to_dict(), 'vision': config.vision.to_dict()})
  return stage, tower_lib.method(stage, tokenizer)


def _evaluate(config, workdir, mesh, method, params, data, features,
              first_stage):
  write = search_results.write if config.eval.get(
      'exact_topk', 0) else results_lib.write
  return write(config, workdir, mesh, method, params, {
      name: results_lib.EvaluatedSplit(
          data.splits[name], features[name], data.frames.get(name),
          first_stage.get(name)) for name in config.eval.splits})
