"""A whole run of a method that embeds: stages of training, then any tasks.

`config.before` names a stage that is trained first, `config.compare` runs that
are trained beside the method from the same start. What is trained where:
stage1/ and plain/ in the workdir, and the method in the workdir itself.
"""
import functools
import pathlib
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxret import embedding, methods, sharding
from jaxret import evaluate as evaluate_lib
from jaxret import extract as extract_lib
from jaxret import train as train_lib
from jaxret.data import (
  benchmarks,
  pair_examples,
  shapes_tasks,
  sources,
  unite_prompts,
)
from jaxret.data import inputs as inputs_lib
from jaxret.data import pairs as pairs_lib
from jaxret.evaluators import retrieval
from jaxret.methods import unite
from jaxret.models import adapters

STAGES, COMPARED = ('stage1',), ('plain',)
MAIN_ROW = 'unite'
# Means over tasks of shapes world.
SHAPES_GROUPS = {
    'text and video': ('text_to_video', 'video_to_text'),
    'text and image': ('text_to_image', 'image_to_text'),
    'text alone': ('text_to_text',),
    'composed': ('image_text_to_image', 'video_text_to_video')}


class Stage(NamedTuple):
  """One training: its row in the results, its config and its directory."""
  row: str
  config: ConfigDict
  directory: pathlib.Path


class Set(NamedTuple):
  """What is evaluated: tasks, and how videos are looked at for them.

  n_frames: of a video, 0 = as the config says. groups: as in
  benchmarks.Benchmark.
  """
  name: str
  tasks: tuple
  recall_at: tuple[int, ...] = (1, 5, 10)
  groups: Any = None
  n_frames: int = 0


def train_and_evaluate(config, workdir):
  """Trains the stages that `config.before` names, the method, and evaluates."""
  check_config(config)
  mesh = train_lib.open_workdir(config, workdir)
  evaluated = open_sets(config)  # before hours of training
  found = training_pairs(config)
  for stage in stages(config, workdir):
    _sources(stage.config, found)
  tokenizer = extract_lib.open_tokenizer(
      config, workdir, _texts(config, found), **_prompt_tokens())
  reader = unite.reader(
      config, tokenizer, int(config.data.cache_gb * 2 ** 30))
  found = readable(config, workdir, reader, found)
  models = {}
  for stage in stages(config, workdir):
    params = train(stage, found, reader, tokenizer, mesh)
    models[stage.row] = stage.config, params
  return _evaluate(config, workdir, mesh, tokenizer, models, evaluated)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or the weights it names."""
  check_config(config)
  mesh = train_lib.open_workdir(config, workdir)
  evaluated = open_sets(config)
  tokenizer = extract_lib.open_tokenizer(config, workdir)
  trained = [stage for stage in stages(config, workdir)
             if (stage.directory / 'checkpoints').is_dir()]
  models = {stage.row: (stage.config, embedding.trained(
      stage.config, tokenizer, stage.directory, mesh)) for stage in trained}
  if MAIN_ROW not in models:
    if not config.init_from and not config.model.pretrained:
      raise ValueError(
          f'{workdir} holds no checkpoints and the config names no weights: '
          'train there first, or set model.pretrained or init_from')
    plain = ConfigDict({**config.to_dict(), 'before': ()})
    method = methods.get(config.method).method(plain, tokenizer)
    models[MAIN_ROW] = plain, embedding.start(
        plain, method, tokenizer, workdir, mesh)
  return _evaluate(config, workdir, mesh, tokenizer, models, evaluated)


def check_config(config):
  """Raises ValueError for fields that do not go together."""
  for field, known in (('before', STAGES), ('compare', COMPARED)):
    unknown = sorted(set(config[field]) - set(known))
    if unknown:
      raise ValueError(f'{field} names {unknown[0]!r}: it can name '
                       f'{", ".join(known)}, or nothing')
  if config.task == 'evaluate' and not config.eval.benchmarks:
    raise ValueError('eval.benchmarks is empty: name one at least, as '
                     "('shapes',)")
  per_source = [part.pairs.per_source for part in (
      config, *(config[name] for name in config.before))]
  if config.loss.modality_mask and per_source[0]:
    raise ValueError(
        'loss.modality_mask has nothing to mask in batches of one source '
        'each: set pairs.per_source=False')


def stages(config, workdir):
  """The trainings of a run in their order, the method's own last."""
  workdir, found = pathlib.Path(workdir), []
  def variant(name, **changes):
    changed = ConfigDict({
        **{key: value for key, value in config.to_dict().items()
           if key not in (*STAGES, *COMPARED)},
        'before': (), 'compare': (), **changes})
    changed.update(config[name])
    return Stage(name, changed, workdir / name)
  for name in config.before:
    found.append(variant(name))
  for name in config.compare:
    start = str((workdir / config.before[-1]).resolve()
                ) if config.before else config.init_from
    found.append(variant(name, init_from=start))
  return [*found, Stage(MAIN_ROW, config, workdir)]


def train(stage, found, reader, tokenizer, mesh):
  """Trains one stage from where it starts; returns its parameters."""
  config = stage.config
  method = methods.get(config.method).method(config, tokenizer)
  examples, order = make_examples(config, method, reader, found)
  logging.info('training %s on %d pairs of %s', stage.row, len(examples),
               ', '.join(_sources(config, found)))
  params = None
  if embedding.earlier_run(config, stage.directory) is not None:
    params = embedding.start(config, method, tokenizer, stage.directory, mesh)
  params = train_lib.fit(method, examples, config, stage.directory, mesh,
                         params, order)
  if 'lora' in params:
    _export_adapter(config, stage.directory, params)
  return params


def make_examples(config, method, reader, found):
  """(examples, order) of a stage, from the pairs of its sources.

  With batches of one source each, every source has shapes of its own.
  """
  names = _sources(config, found)
  chosen = {name: found[name] for name in names}
  mixture = pairs_lib.Mixture(chosen)
  weights = dict(zip(names, config.pairs.weights)) or None
  order = pairs_lib.MixedOrder(mixture, config.train.batch_size, config.seed,
                               weights, config.pairs.per_source)
  make = functools.partial(
      method.examples, its_reader=reader, shapes=_shapes(config))
  if not config.pairs.per_source:
    return make(mixture), order
  return pair_examples.JoinedExamples(
      {name: make(source) for name, source in chosen.items()}), order


def _shapes(config):
  """{side: Shape} of data.shape; None = measured from all media."""
  if not config.data.shape:
    return None
  shape = inputs_lib.Shape(*config.data.shape)
  return dict.fromkeys(pair_examples.SIDES, shape)


def _sources(config, found):
  names = config.pairs.sources or tuple(found)
  unknown = [name for name in names if name not in found]
  if unknown:
    raise ValueError(f'pairs.sources names {unknown[0]!r}; there is '
                     f'{", ".join(found)}')
  if config.pairs.weights and len(config.pairs.weights) != len(names):
    raise ValueError(f'pairs.weights has {len(config.pairs.weights)} numbers '
                     f'for {len(names)} sources; want one for each')
  return names


def training_pairs(config):
  """{source: pairs} of the config's data set."""
  if config.data.name == 'shapes':
    return shapes_tasks.training_pairs(sources.shapes_root(config.data))
  if config.data.name == 'pairs':
    if not config.data.pairs:
      raise ValueError('data.pairs names no file: give training files of '
                       "UNITE in data.root, as ('train.json',)")
    root = pathlib.Path(config.data.root).expanduser()
    return {name: pairs_lib.PairFile(root / name, root)
            for name in config.data.pairs}
  return pairs_lib.of_split(sources.load(config.data, 'train'))


def _texts(config, found):
  """All texts of the training pairs, for the tokenizer that is made of them.

  A model that has a tokenizer needs none.
  """
  if config.model.tokenizer or config.model.pretrained or config.init_from:
    return None
  texts = (getattr(pair, side).text for pairs in found.values()
           for pair in (pairs[i] for i in range(len(pairs)))
           for side in ('query', 'candidate'))
  return list(dict.fromkeys(text for text in texts if text))


def _prompt_tokens():
  """What a tokenizer must know besides captions."""
  names = tuple(unite_prompts.CODES)
  orders = [(name,) for name in names] + [('image', 'text'), ('video', 'text')]
  return {'control_tokens': unite_prompts.CONTROL_TOKENS, 'prompts': [
      unite_prompts.summary_prompt('', order) for order in orders]}


def readable(config, workdir, reader, found):
  """The pairs whose media can be read; the others go to skipped.jsonl."""
  media = {}
  for pairs in found.values():
    for pair in (pairs[i] for i in range(len(pairs))):
      for item in (pair.query, pair.candidate, pair.negative):
        if item is not None and (item.image or item.video):
          media.setdefault((item.image, item.video), item)
  scan = inputs_lib.Scan(reader, list(media.values()))
  ids = [repr(key) for key in media]
  bad = extract_lib.unreadable(
      ids, scan, pathlib.Path(workdir) / 'media' / 'train.json')
  if not bad:
    return found
  extract_lib.list_skipped(workdir, 'train', [
      {'id': item.id, 'reason': bad[name]}
      for name, item in zip(ids, media.values()) if name in bad])
  if len(bad) == len(ids):
    raise ValueError(f'none of the {len(ids)} media can be read; the first: '
                     f'{next(iter(bad.values()))}')
  def good(pair):
    return all(repr((item.image, item.video)) not in bad for item in (
        pair.query, pair.candidate, pair.negative) if item is not None)
  kept = {name: [pairs[i] for i in range(len(pairs)) if good(pairs[i])]
          for name, pairs in found.items()}
  return {name: pairs for name, pairs in kept.items() if pairs}


def open_sets(config):
  """[Set] that config.eval.benchmarks names, their files found.

  Their files lie in eval.root, of several each in a directory of its name.
  """
  names, found = config.eval.benchmarks, []
  for name in names:
    if name == 'shapes':
      tasks = shapes_tasks.tasks(
          sources.shapes_root(config.data), config.eval.split)
      found.append(Set(name, tasks, groups=SHAPES_GROUPS))
    elif name == 'folder':
      split = sources.load(config.data, config.eval.split)
      found.append(Set(name, (split.text_to_video(), split.video_to_text())))
    else:
      root = config.eval.root or config.data.root
      if len(names) > 1 and root:
        root = str(pathlib.Path(root) / name)
      tasks = benchmarks.load(name, root, config.eval.tasks or None)
      known = benchmarks.BENCHMARKS[name]
      found.append(Set(name, tasks, known.recall_at, known.groups,
                       known.n_frames or 0))
  return found


def _evaluate(config, workdir, mesh, tokenizer, models, evaluated):
  """Evaluates on every Set; of several each gets a directory of its own."""
  workdir, results = pathlib.Path(workdir), None
  for one in evaluated:
    encoders = {row: _encoder(workdir, its, params, tokenizer, mesh, one)
                for row, (its, params) in models.items()}
    where = workdir / one.name if len(evaluated) > 1 else workdir
    logging.info('evaluating %s on %d tasks of %s', ', '.join(models),
                 len(one.tasks), one.name)
    results, answers = retrieval.evaluate(
        one.tasks, encoders, where, one.name, config.eval.split,
        one.recall_at, sharding.make_mesh({'data': -1}, jax.local_devices()))
    if results is not None:
      if one.groups:
        results['means'] = retrieval.group_means(results, one.groups)
      results['left_out'] = evaluate_lib.left_out(workdir)
      shown = config.eval.gallery_queries // 2
      evaluate_lib.publish(
          config, where, results,
          gallery=retrieval.gallery(answers, shown, shown))
  return results


def _encoder(workdir, config, params, tokenizer, mesh, evaluated):
  """A retrieval.Encoder that reports what it leaves out to skipped.jsonl."""
  seen = ConfigDict(config.to_dict())
  if evaluated.n_frames:
    seen.media.n_frames = evaluated.n_frames
  if config.eval.max_tokens:
    seen.data.max_tokens = config.eval.max_tokens
  model = embedding.Embedder(
      unite.model_config(config, tokenizer), params,
      unite.reader(seen, tokenizer), mesh,
      config.eval.shape and inputs_lib.Shape(*config.eval.shape))

  def encode(items, prompt):
    skipped = []
    def failed(error):
      name, _, reason = str(error).partition(': ')
      skipped.append({'id': name, 'reason': reason})
    vectors = model.encode(items, prompt, config.eval.batch_size, failed,
                           show_progress=extract_lib.first())
    if skipped:
      extract_lib.list_skipped(workdir, config.eval.split, skipped)
    return vectors

  return retrieval.Encoder(encode, {
      'weights': sharding.checksum(params), 'max_tokens': seen.data.max_tokens,
      'position_mode': config.model.position_mode,
      'media': str(unite.resolution(seen))})


def _export_adapter(config, directory, params):
  """Writes what LoRA trained to adapter/, as PEFT does."""
  lora = config.model.lora
  factors = sharding.to_host(params['lora'])
  if extract_lib.first():
    adapters.export_peft(
        adapters.Adapter(factors, lora.alpha / lora.rank),
        directory / 'adapter', config.model.pretrained, nested=False)
