"""A whole run of LECCR: descriptions, one model per language, evaluation.

In the workdir: captioner/ and descriptions/ where they are made here,
tokenizer/, and <language>/<row>/ for each model. `config.compare` names models
that are trained beside the method; one of them is a row of the results.
"""
import dataclasses
import functools
import pathlib
from typing import NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxret import checkpoint, methods, process_settings, processes, sharding
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.data import bigfile, media, text
from jaxret.data import descriptions as descriptions_lib
from jaxret.data.shapes import parallel as shapes_parallel
from jaxret.data.videochat import prompts as videochat_prompts
from jaxret.methods.leccr import caption_examples, captioner, sets
from jaxret.methods.leccr import describe as caption_lib
from jaxret.methods.leccr import evaluator as cross_lingual
from jaxret.methods.leccr import method as leccr
from jaxret.models import leccr as leccr_lib


class Data(NamedTuple):
  """splits: {(language, split): ParallelSplit}; visuals: {the same: Visuals}.

  where: {(language, split): {visual id: 'file, line n'}}, for messages.
  """
  splits: dict
  visuals: dict
  where: dict


class Stage(NamedTuple):
  """One training: its language, its row in the results, config, directory."""
  language: str
  row: str
  config: ConfigDict
  directory: pathlib.Path


def train_and_evaluate(config, workdir):
  """Describes what is to be searched, trains every model, evaluates them."""
  mesh = start(config, workdir)
  data = open_data(config, workdir, ('train', *evaluation_splits(config)))
  for (_, name), split in data.splits.items():
    if name == 'train':  # a batch larger than the data, say
      train_lib.make_plan(config.train, len(split.texts), mesh)
  data = described(config, workdir, mesh, data)
  tokenizer = open_tokenizer(config, workdir, data)
  known, programs = {}, {}
  for stage in stages(config, workdir):
    method = shared_method(stage, tokenizer, known)
    train(stage, method, data, mesh, programs)
  return _evaluate(config, workdir, mesh, data, tokenizer)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir."""
  mesh = start(config, workdir)
  lacking = [str(stage.directory) for stage in stages(config, workdir)
             if not run_lib.has_checkpoints(stage.directory)]
  if lacking:
    raise ValueError(f'{lacking[0]} holds no checkpoints: train there first')
  names = evaluation_splits(config)
  if not config.data.descriptions and not config.captioner.model.pretrained:
    names = ('train', *names)  # what the captioner was trained on
  data = described(config, workdir, mesh, open_data(config, workdir, names))
  return _evaluate(config, workdir, mesh, data,
                   open_tokenizer(config, workdir))


def caption(config, workdir):
  """Describes all images or videos, and nothing more."""
  mesh = start(config, workdir)
  data = open_data(config, workdir, ('train', *evaluation_splits(config)),
                   with_features=False)
  directory = config.data.descriptions or pathlib.Path(
      workdir) / 'descriptions'
  keys = write_descriptions(config, workdir, mesh, data, directory)
  logging.info('%d descriptions in %s', len(keys), directory)


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
  found = []
  common = {name: value for name, value in config.to_dict().items()
            if name not in ('compare', 'captioner', *config.compare)}
  for language in config.data.languages:
    for row in (*config.compare, cross_lingual.MAIN_ROW):
      own = ConfigDict(common)
      own.data.languages = (language,)
      if row != cross_lingual.MAIN_ROW:
        own.update(config[row])
      found.append(Stage(language, row, own,
                         pathlib.Path(workdir) / language / row))
  return found


def open_data(config, workdir, names, with_features=True):
  """The Data of the named splits in every language, without descriptions.

  Images that cannot be read are left out; see skipped.jsonl.
  """
  found = Data({}, {}, {})
  for language in config.data.languages:
    for name in names:
      key = language, name
      split, where = sets.load_split(config, name, language)
      if config.data.features:
        visuals = with_features and bigfile.open_frames(
            config.data.features, split.videos, where, config.data.max_frames)
      else:
        split, visuals = open_images(config, workdir, split)
      found.splits[key], found.visuals[key] = split, visuals
      found.where[key] = where
  return found


def open_images(config, workdir, split):
  """(split, Visuals) of the images that can be read."""
  def frames(split):
    return media.Frames(split.videos, 1, config.model.image_px,
                        cache_bytes=int(config.data.cache_gb * 2 ** 30))
  visuals = frames(split)
  bad = run_lib.unreadable(
      [video.id for video in split.videos], visuals,
      pathlib.Path(workdir) / 'media' / f'{split.name}.json')
  if not bad:
    return split, visuals
  run_lib.leave_out(
      workdir, split.name,
      [{'id': name, 'reason': reason} for name, reason in bad.items()],
      len(split.videos), f'images of {split.dataset} {split.name}')
  split = split.without(bad)
  return split, frames(split)


def described(config, workdir, mesh, data):
  """The Data with descriptions, which are made here if none are given."""
  if not any(stage.config.model.slots for stage in stages(config, workdir)):
    return data
  directory, keys = config.data.descriptions, None
  if not directory:
    directory = pathlib.Path(workdir) / 'descriptions'
    keys = write_descriptions(config, workdir, mesh, data, directory)
  splits = {}
  for key, split in data.splits.items():
    where = {video.id: data.where[key][video.id] for video in split.videos}
    found = descriptions_lib.load(
        directory, where, keys, sets.file_names(config.data, split))
    splits[key] = dataclasses.replace(
        split, descriptions=tuple(found.values()))
  return data._replace(splits=splits)


def write_descriptions(config, workdir, mesh, data, directory):
  """Describes each image or video once; returns {id: key in the cache}."""
  media_of = {video.id: video for split in data.splits.values()
              for video in split.videos}
  describer, local = open_describer(config, workdir, mesh, data)
  section = config.captioner
  return caption_lib.describe(
      describer, list(media_of.values()), directory, section.batch_size,
      section.max_new_tokens, local, processes.first())


def open_describer(config, workdir, mesh, data):
  """(Describer, its mesh), a captioner trained here if none is named."""
  stage = ConfigDict({**config.captioner.to_dict(), 'seed': config.seed})
  local = sharding.local_mesh()
  if stage.model.pretrained:
    tokenizer = text.load_tokenizer(stage.model.pretrained)
    return caption_lib.open_describer(stage, tokenizer, local), local
  split = data.splits[config.data.languages[0], 'train']
  directory = pathlib.Path(workdir) / 'captioner'
  tokenizer = _trained_tokenizer(
      directory, stage.model.vocab_size, [one.text for one in split.texts],
      control_tokens=caption_examples.CONTROL_TOKENS,
      prompts=[caption_examples.prompt((kind,), question)
               for kind, question in stage.questions.items()])
  method = captioner.method(stage, tokenizer)
  examples = method.examples(split, int(config.data.cache_gb * 2 ** 30))
  logging.info('training a captioner on %d captions', len(examples))
  params = sharding.to_host(
      train_lib.fit(method, examples, stage, directory, mesh))
  params = jax.device_put(params, sharding.shardings(local, params))
  return caption_lib.qwen2_vl(stage, tokenizer, local, params), local


def _trained_tokenizer(directory, vocab_size, captions, **options):
  """One trained on `captions`; None = it was trained before."""
  model = {'tokenizer': '', 'pretrained': '', 'vocab_size': vocab_size}
  return run_lib.open_tokenizer(
      ConfigDict({'model': model, 'init_from': ''}), directory, captions,
      **options)


def open_tokenizer(config, workdir, data=None):
  """The text encoder's tokenizer, or a small one trained on all texts.

  data: to train on; None = it was trained before.
  """
  m = config.model
  name = m.tokenizer or m.text_pretrained
  if not name:
    texts = None
    if data is not None:
      texts = list(dict.fromkeys(
          caption for (_, split), found in data.splits.items()
          if split == 'train' for caption in (
              *(item.text for item in (*found.texts, *found.translations)),
              *found.descriptions)))
    _trained_tokenizer(workdir, m.vocab_size, texts,
                       template=videochat_prompts.TEMPLATE)
    name = pathlib.Path(workdir) / 'tokenizer'
  return text.load_text_encoder_tokenizer(name, m.text.max_tokens)


def shared_method(stage, tokenizer, known):
  """The Method of a stage, made once for those that differ in data alone.

  Their languages and the weights of their losses are inputs of a step, so that
  it is compiled once for all of them. known: {fingerprint: Method}, added to.
  """
  plain = ConfigDict(stage.config.to_dict())
  plain.data.languages = ()
  plain.loss.update(dict.fromkeys(leccr.loss_weights(plain.loss), 0.0))
  key = checkpoint.fingerprint(plain)
  if key not in known:
    known[key] = methods.get(stage.config.method).method(
        stage.config, tokenizer)
  return known[key]


def train(stage, method, data, mesh, programs):
  """Trains one model; its checkpoints are in the stage's directory."""
  config = stage.config
  split = data.splits[stage.language, 'train']
  if not config.model.slots:
    split = dataclasses.replace(split, descriptions=())
  examples = method.examples(split, data.visuals[stage.language, 'train'])
  examples.constants = leccr.loss_weights(config.loss)
  logging.info('training %s for %s on %d captions', stage.row, stage.language,
               len(examples))
  train_lib.fit(method, examples, config, stage.directory, mesh,
                programs=programs)


def _evaluate(config, workdir, mesh, data, tokenizer):
  """Writes the results of every model, each at its best checkpoint."""
  select_on, name = leccr.recipe(config).select_on, config.eval.split
  scores, chosen, known = {}, {}, {}
  for stage in stages(config, workdir):
    logging.info('evaluating %s for %s', stage.row, stage.language)
    found, language = {}, stage.language
    method = shared_method(stage, tokenizer, known)
    for step, params in _checkpoints(stage, method, mesh):
      score = functools.partial(_score, stage, params, mesh, data, tokenizer)
      found[step] = {select_on: cross_lingual.summarize(
          score(select_on), data.splits[language, select_on])[
              'sum_of_recalls']}
      best = cross_lingual.select(found, select_on)
      if best['step'] == step:
        chosen.setdefault(language, {})[stage.row] = best
        scores.setdefault(language, {})[stage.row] = score(name)
  if not processes.first():
    return None
  splits = {language: data.splits[language, name] for language in scores}
  results = cross_lingual.results(splits, scores, chosen)
  results['left_out'] = run_lib.left_out(workdir)
  shown = config.eval.gallery_queries // 2
  run_lib.publish(config, workdir, results, gallery=[
      query for language, split in splits.items()
      for query in cross_lingual.gallery(
          split, None if config.data.features else data.visuals[language, name],
          language, scores[language], shown)])
  return results


def _checkpoints(stage, method, mesh):
  """Yields (step, parameters) of all that a training kept."""
  shapes = sharding.abstract(
      mesh, jax.eval_shape(method.init, jax.random.key(0)))
  with checkpoint.Checkpoints(
      stage.directory / 'checkpoints', read_only=True) as checkpoints:
    for step in checkpoints.steps():
      yield step, checkpoints.restore(step, {'trainable': shapes})['trainable']


def _score(stage, params, mesh, data, tokenizer, name):
  """Scores [T, V] of one split by one model."""
  config, key = stage.config, (stage.language, name)
  sizes = leccr.model_config(config, tokenizer)
  embedded = cross_lingual.embed(
      leccr_lib.Leccr(sizes), params, mesh, data.splits[key],
      data.visuals[key], tokenizer.encode, config.eval.batch_size,
      dict(config.data.tokens))
  return cross_lingual.score(
      embedded, sizes.vision is None, config.eval.visual_weight)
