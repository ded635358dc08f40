"""A whole run of LECCR: descriptions, one model per language, evaluation.

In the workdir: captioner/ and descriptions/ where they are made here,
tokenizer/, and <language>/<row>/ for each model. `config.compare` names models
that are trained beside the method; one of them is a row of the results.
"""
import dataclasses
import functools
import pathlib
from typing import NamedTuple

from absl import logging
from ml_collections import ConfigDict

from jaxret import (
  checkpoint,
  initial,
  process_settings,
  processes,
  progress,
  protocols,
  sharding,
  training_plan,
)
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.data.shapes import parallel as shapes_parallel
from jaxret.methods.leccr import describe, evaluator, sets, tokenizers
from jaxret.methods.leccr import method as leccr
from jaxret.methods.leccr import visuals as visuals_lib
from jaxret.models import leccr as leccr_lib

READING, DESCRIBING = 'reading the media', 'describing'
EVALUATING = 'evaluating'


class Data(NamedTuple):
  """What a run reads, each {(language, name of the split): ...}.

  splits: ParallelSplits. visuals: Visuals of their images or videos. where:
  {visual id: 'file, line n'}, for messages. file_names: {visual id: its file}
  if published descriptions are named by these, or None.
  """
  splits: dict
  visuals: dict
  where: dict
  file_names: dict


def train_and_evaluate(config, workdir):
  """Describes what is to be searched, trains every model, evaluates them."""
  mesh = start(config, workdir)
  progress.phase(phases(config, workdir), READING)
  data = open_data(config, workdir, ('train', *evaluation_splits(config)))
  for language in config.data.languages:  # fewer examples than devices, say
    training_plan.make_plan(
        config.train, len(data.splits[language, 'train'].texts), mesh)
  data = with_descriptions(config, workdir, mesh, data)
  tokenizer = tokenizers.text_encoder(config, workdir, data.splits)
  train_all(config, workdir, mesh, data, tokenizer)
  return evaluate_all(config, workdir, mesh, data, tokenizer)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir."""
  mesh = start(config, workdir)
  lacking = [str(stage.directory) for stage in stages(config, workdir)
             if not run_lib.has_checkpoints(stage.directory)]
  if lacking:
    raise ValueError(f'{lacking[0]} holds no checkpoints: train there first')
  progress.phase(phases(config, workdir), READING)
  names = evaluation_splits(config)
  if not config.data.descriptions and not config.captioner.model.pretrained:
    names = ('train', *names)  # what the captioner was trained on
  data = with_descriptions(
      config, workdir, mesh, open_data(config, workdir, names))
  return evaluate_all(config, workdir, mesh, data,
                      tokenizers.text_encoder(config, workdir))


def caption(config, workdir):
  """Describes all images or videos, and nothing more."""
  mesh = start(config, workdir)
  data = open_data(config, workdir, ('train', *evaluation_splits(config)),
                   with_features=False)
  directory = config.data.descriptions or pathlib.Path(
      workdir) / 'descriptions'
  keys = describe.describe_all(config, workdir, mesh, data.splits, directory)
  logging.info('%d descriptions in %s', len(keys), directory)


def phases(config, workdir):
  """The names of the parts of a run; see progress.phase."""
  trained = [] if config.task == 'evaluate' else stages(config, workdir)
  return (READING, *[DESCRIBING] * _describes(config, workdir),
          *map(_training, trained), EVALUATING)


def _training(stage):
  return f'training {stage.row} for {stage.config.data.languages[0]}'


def _describes(config, workdir):
  """Whether a model has slots for descriptions, and none are given."""
  return not config.data.descriptions and any(
      stage.config.model.slots for stage in stages(config, workdir))


def start(config, workdir):
  """The mesh of a run whose config is good; the workdir becomes its own."""
  check_config(config)
  # Trainings that differ in their data alone share what is compiled.
  process_settings.keep_compiled(pathlib.Path(workdir) / 'compiled')
  return run_lib.open_workdir(config, workdir)


def check_config(config):
  """Raises ValueError for fields that do not go together."""
  for language in config.data.languages:
    if config.data.name == 'shapes':
      shapes_parallel.check_language(language)
  if not config.data.languages:
    raise ValueError("data.languages is empty: name one at least, as ('de',)")
  unknown = [name for name in config.compare if name not in config]
  if unknown:
    raise ValueError(f'compare names {unknown[0]!r}, but the config has no '
                     'section of that name: add it, with what differs')
  if config.eval.split not in ('validation', 'test'):
    raise ValueError(f'eval.split is {config.eval.split!r}: use validation or '
                     'test')
  if bool(config.model.frame_layers) != bool(config.data.features):
    raise ValueError(
        f'model.frame_layers is {config.model.frame_layers} and data.features '
        f'{config.data.features!r}: layers over frames go with a directory of '
        'frame features, and neither without the other')
  leccr.recipe(config)


def evaluation_splits(config):
  """The split to select on and the one to report, each once."""
  return tuple(dict.fromkeys(
      (leccr.recipe(config).select_on, config.eval.split)))


def stages(config, workdir):
  """The trainings of a run: for each language those to compare, then ours."""
  rows = (*config.compare, evaluator.MAIN_ROW)
  # The method's own row changes nothing.
  whole = ConfigDict({**config.to_dict(), evaluator.MAIN_ROW: {}})
  def stage(language, row):
    changed = run_lib.stage_config(
        whole, ('compare', 'captioner', *rows), row)
    changed.data.languages = (language,)
    return run_lib.Stage(row, changed, pathlib.Path(workdir) / language / row)
  return [stage(language, row)
          for language in config.data.languages for row in rows]


def open_data(config, workdir, names, with_features=True):
  """The Data of the named splits in every language, without descriptions.

  Images that cannot be read are left out; see skipped.jsonl.
  """
  splits, where, visuals = {}, {}, {}
  for language in config.data.languages:
    for name in names:
      splits[language, name], where[language, name] = sets.load_split(
          config, name, language)
      run_lib.leave_out_entries(
          config, workdir, name, splits[language, name].left_out)
  if not config.data.features:
    splits, visuals = visuals_lib.open_images(config, workdir, splits)
  elif with_features:
    visuals = visuals_lib.open_features(config, splits, where)
  return Data(splits, visuals, where, {
      key: sets.file_names(config.data, split)
      for key, split in splits.items()})


def with_descriptions(config, workdir, mesh, data):
  """The Data with descriptions, if any of the models has slots for them."""
  if not any(stage.config.model.slots for stage in stages(config, workdir)):
    return data
  if not config.data.descriptions:
    progress.phase(phases(config, workdir), DESCRIBING)
  return data._replace(splits=describe.described(
      config, workdir, mesh, data.splits, data.where, data.file_names))


def train_all(config, workdir, mesh, data, tokenizer):
  """Trains every model; those that differ in data or weights share a step."""
  methods, programs = {}, {}
  for stage in stages(config, workdir):
    # Made of these fields alone, a Method cannot depend on any other.
    fields = leccr.method_config(stage.config)
    if str(fields) not in methods:
      methods[str(fields)] = leccr.method(fields, tokenizer)
    progress.phase(phases(config, workdir), _training(stage))
    train(stage, methods[str(fields)], data, mesh, programs)


def train(stage, method, data, mesh, programs):
  """Trains one model; its checkpoints are in the stage's directory."""
  config, language = stage.config, stage.config.data.languages[0]
  split = data.splits[language, 'train']
  if not config.model.slots:
    split = dataclasses.replace(split, descriptions=())
  examples = method.examples(split, data.visuals[language, 'train'],
                             leccr.loss_weights(config.loss))
  train_lib.fit(method, examples, config, stage.directory, mesh,
                programs=programs)


def evaluate_all(config, workdir, mesh, data, tokenizer):
  """Writes the results of every model, each at its best checkpoint."""
  progress.phase(phases(config, workdir), EVALUATING)
  select_on, name = leccr.recipe(config).select_on, config.eval.split
  scores = {language: {} for language in config.data.languages}
  chosen = {language: {} for language in config.data.languages}
  for stage in stages(config, workdir):
    language = stage.config.data.languages[0]
    sums = {}
    for step, params in _checkpoints(stage, tokenizer, mesh):
      score = functools.partial(_score, stage, params, mesh, data, tokenizer)
      sums[step] = {select_on: evaluator.summarize(
          score(select_on), data.splits[language, select_on])[
              'sum_of_recalls']}
      best = evaluator.select(sums, select_on)
      if best['step'] == step:
        chosen[language][stage.row] = best
        scores[language][stage.row] = score(name)
  if not processes.first():
    return None
  splits = {language: data.splits[language, name] for language in scores}
  results = evaluator.results(splits, scores, chosen)
  results['left_out'] = run_lib.left_out(workdir)
  protocols.add(results, config, config.data.root, [
      task for language, split in splits.items()
      for task, _ in evaluator.tasks(split, language).values()])
  shown = config.eval.gallery_queries // 2
  run_lib.publish(config, workdir, results, gallery=[
      query for language, split in splits.items()
      for query in evaluator.gallery(
          split, None if config.data.features else data.visuals[language, name],
          language, scores[language], shown)], queries=[
              one for language, split in splits.items()
              for one in evaluator.all_queries(
                  split, language, scores[language])])
  return results


def _checkpoints(stage, tokenizer, mesh):
  """Yields (step, parameters) of all that a training kept."""
  module = leccr_lib.Leccr(leccr.model_config(stage.config, tokenizer))
  shapes = sharding.abstract(mesh, initial.shapes(
      functools.partial(leccr.init, module)))
  with checkpoint.Checkpoints(
      stage.directory / 'checkpoints', read_only=True) as checkpoints:
    for step in checkpoints.steps():
      yield step, checkpoints.restore(step, {'trainable': shapes})['trainable']


def _score(stage, params, mesh, data, tokenizer, name):
  """Scores [T, V] of one split by one model."""
  config = stage.config
  sizes = leccr.model_config(config, tokenizer)
  key = config.data.languages[0], name
  embedded = evaluator.embed(
      leccr_lib.Leccr(sizes), params, mesh, data.splits[key],
      data.visuals[key], tokenizer.encode, config.eval.batch_size,
      dict(config.data.tokens))
  return evaluator.score(
      embedded, sizes.vision is None, config.eval.visual_weight)
