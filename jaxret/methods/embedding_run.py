"""What runs of methods that embed share: stages of training, and encoders.

`config.before` names stages that are trained first, `config.compare` runs that
are trained beside the method from the same start; each is a section of the
config with what it changes, and `starts_from` says which stage it goes on
from. What is trained where: <stage>/ in the workdir, and the method in the
workdir itself. What else such a method must offer: methods.base.Embeds.
"""
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxret import (
  embedder,
  methods,
  optim,
  processes,
  progress,
  retrieval,
  sharding,
  training_plan,
)
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.data import media, pair_examples, redraws
from jaxret.data import mixture as mixture_lib
from jaxret.methods import base, embedding_losses

READING = 'reading the media'


class Run(NamedTuple):
  """What all parts of a run share.

  trained: {row: (config, params)}, which grows. phases: the names of its
  parts, as `phases_of` gives them.
  """
  config: ConfigDict
  workdir: pathlib.Path
  mesh: Any
  embeds: base.Embeds
  tokenizer: Any
  trained: dict
  phases: tuple = ()

  def begin(self, part):
    """Says that a part of the run begins."""
    progress.phase(self.phases, part)


def phases_of(stages, evaluated):
  """The names of a run's parts: what is trained, and what it is tried on."""
  return (READING, *(training(stage.row) for stage in stages),
          *(evaluating(one.name) for one in evaluated))


def training(row):
  return f'training {row}'


def evaluating(name):
  return f'evaluating on {name}'


def train_all(config, workdir, prepare=None, opened=None):
  """Trains the stages that `config.before` names and the method.

  prepare: (Run, Stage, {source: pairs}) -> {source: pairs} that the stage is
  trained on, with negatives that an earlier stage finds, say; called before
  each stage. opened: called with what `embeds.evaluated` gives before anything
  is trained. Returns (Run, what `embeds.evaluated` gives).
  """
  embeds = check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  evaluated = _evaluated(config, workdir)  # before hours of training
  if opened:
    opened(evaluated)
  phases = phases_of(stages(config, workdir), evaluated)
  progress.phase(phases, READING)
  sources = embeds.training_pairs(config)
  run_lib.leave_out_entries(config, workdir, 'train', _left_out(
      sources.values()))
  for stage in stages(config, workdir):
    _source_names(stage.config, sources)
  tokenizer = run_lib.open_tokenizer(
      config, workdir, _texts(config, sources), **embeds.tokenizer_options())
  reader = embeds.reader(config, tokenizer, int(config.data.cache_gb * 2 ** 30))
  sources = readable(workdir, reader, sources)
  run = Run(config, pathlib.Path(workdir), mesh, embeds, tokenizer, {}, phases)
  for stage in stages(config, workdir):
    run.begin(training(stage.row))
    pairs = prepare(run, stage, sources) if prepare else sources
    run.trained[stage.row] = stage.config, train(run, stage, pairs, reader)
  return run, evaluated


def open_trained(config, workdir):
  """As `train_all`, of what was trained before, or of published weights."""
  embeds = check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  evaluated = _evaluated(config, workdir)
  tokenizer = run_lib.open_tokenizer(config, workdir)
  models = {stage.row: (stage.config, run_lib.trained(
      stage.config, tokenizer, stage.directory, mesh))
            for stage in stages(config, workdir)
            if run_lib.has_checkpoints(stage.directory)}
  if config.method not in models:
    run_lib.check_weights(config, workdir, trained=False)
    plain = ConfigDict({**config.to_dict(), 'before': (), 'starts_from': ''})
    method = methods.get(config.method).method(plain, tokenizer)
    models[config.method] = plain, run_lib.start(
        plain, method, tokenizer, workdir, mesh)
  run = Run(config, pathlib.Path(workdir), mesh, embeds, tokenizer, models,
            phases_of((), evaluated)[1:])
  return run, evaluated


def check_config(config):
  """The Embeds of the config's method; ValueError for what does not fit."""
  embeds = methods.embeds(config.method)
  for field, known in (('before', embeds.stages), ('compare', embeds.compared)):
    unknown = sorted(set(config[field]) - set(known))
    if unknown:
      raise ValueError(f'{field} names {unknown[0]!r}: it can name '
                       f'{", ".join(known)}, or nothing')
  if config.task == 'evaluate' and not config.eval.benchmarks:
    raise ValueError('eval.benchmarks is empty: name one at least, as '
                     "('shapes',)")
  earlier = []
  for stage in stages(config, ''):
    start = stage.config.starts_from
    if start and start not in earlier:
      raise ValueError(
          f'{stage.row} starts_from {start!r}, which is not trained before it '
          f'(before names {", ".join(config.before) or "nothing"}): set '
          'starts_from to one that is, or to nothing')
    earlier += [stage.row] if stage.row in config.before else []
    if stage.config.pairs.per_source and stage.config.pairs.get('aligned'):
      raise ValueError('pairs.aligned puts several sources into one batch, '
                       'pairs.per_source one: set one of the two to False')
    embeds.check(stage.config)
  return embeds


def _evaluated(config, workdir):
  """What is evaluated; what its files hold besides is listed."""
  evaluated = methods.embeds(config.method).evaluated(config)
  run_lib.leave_out_entries(
      config, workdir, config.eval.split, _left_out(evaluated))
  return evaluated


def _left_out(things):
  """The types.LeftOut of all of them; those of other packages may have none."""
  return [one for thing in things for one in getattr(thing, 'left_out', ())]


def stages(config, workdir):
  """The trainings of a run in their order, the method's own last."""
  embeds, workdir = methods.embeds(config.method), pathlib.Path(workdir)
  sections = (*embeds.stages, *embeds.compared)
  def stage(name):
    fields = {'starts_from': ''} if name in config.before else {}
    return run_lib.Stage(name, run_lib.stage_config(
        config, sections, name, before=(), compare=(), **fields),
                         workdir / name)
  return [*map(stage, (*config.before, *config.compare)),
          run_lib.Stage(config.method, config, workdir)]


def train(run, stage, sources, reader):
  """Trains one stage from where it starts; returns its parameters."""
  config = stage.config
  method = methods.get(config.method).method(config, run.tokenizer)
  examples, mixture, order = make_examples(
      config, method, reader, sources, run.mesh)
  logging.info('%d pairs of %s', len(examples), ', '.join(mixture.names))
  params = None
  if run_lib.earlier_run(config, stage.directory) is not None:
    params = run_lib.start(
        config, method, run.tokenizer, stage.directory, run.mesh)
  damaged = Damaged(run.workdir)
  params = train_lib.fit(
      method, examples, config, stage.directory, run.mesh, params, order,
      instead=redraws.Redraws(mixture, order, config.seed, damaged))
  damaged.gather(reader, {name: sources[name] for name in mixture.names})
  if 'lora' in params:
    trained = optim.partition(params, method.trainable)[0].get('params', {})
    run_lib.export_adapter(
        config, stage.directory, params, run.embeds.weight_names(
            run.embeds.model(config, run.tokenizer)), trained)
  return params


def make_examples(config, method, reader, sources, mesh):
  """(examples, Mixture, order) of a stage, from the pairs of its sources.

  With batches of one source each, every source has shapes of its own.
  """
  names = _source_names(config, sources)
  chosen = {name: sources[name] for name in names}
  mixture = mixture_lib.Mixture(chosen)
  embedding_losses.check_pairs(config.loss, chosen)
  weights = dict(zip(names, config.pairs.weights)) or None
  plan = training_plan.make_plan(config.train, len(mixture), mesh)
  order = mixture_lib.MixedOrder(
      mixture, plan.batch_size, config.seed, weights, config.pairs.per_source,
      # Configs of old work directories have no such field.
      config.pairs.get('aligned', False))
  make = functools.partial(
      method.examples, reader=reader, shapes=_shapes(config))
  if not config.pairs.per_source:
    return make(mixture), mixture, order
  return pair_examples.JoinedExamples(
      {name: make(source) for name, source in chosen.items()}), mixture, order


def _shapes(config):
  """{side: data.shape}; None = measured from all media."""
  if not config.data.shape:
    return None
  return dict.fromkeys(pair_examples.SIDES, tuple(config.data.shape))


def _source_names(config, sources):
  names = config.pairs.sources or tuple(sources)
  unknown = [name for name in names if name not in sources]
  if unknown:
    raise ValueError(f'pairs.sources names {unknown[0]!r}; there is '
                     f'{", ".join(sources)}')
  if config.pairs.weights and len(config.pairs.weights) != len(names):
    raise ValueError(f'pairs.weights has {len(config.pairs.weights)} numbers '
                     f'for {len(names)} sources; want one for each')
  return names


def _texts(config, sources):
  """All texts of the training pairs, for the tokenizer that is made of them.

  A model that has a tokenizer needs none.
  """
  if config.model.tokenizer or config.model.pretrained or config.init_from:
    return None
  texts = (getattr(pair, side).text for pairs in sources.values()
           for pair in (pairs[i] for i in range(len(pairs)))
           for side in ('query', 'candidate'))
  return list(dict.fromkeys(text for text in texts if text))


def readable(workdir, reader, sources):
  """The pairs whose media can be opened; the others go to skipped.jsonl.

  Headers are read, and of videos a first frame, each file once. What only
  decoding shows is met while training, see Damaged.
  """
  headers = pair_examples.Headers(reader, sources)
  bad = run_lib.unreadable(
      headers.ids, headers, pathlib.Path(workdir) / 'media' / 'train.json')
  run_lib.leave_out(workdir, 'train', [
      {'id': item.id, 'reason': bad[name]}
      for name, item in zip(headers.ids, headers.items) if name in bad],
                    len(headers), 'media')
  return pair_examples.without(sources, bad)


class Damaged:
  """Items of a training whose media prove damaged when they are decoded.

  Called with the MediaError of one, it says that the item is left out and
  lists it in skipped.jsonl.
  """

  def __init__(self, workdir):
    self._workdir, self._ids = workdir, set()

  def __call__(self, error):
    self._ids.add(error.name)
    logging.warning('%s; it is left out, and other pairs are drawn in place of '
                    'its own', error)
    run_lib.list_skipped(self._workdir, 'train', [
        {'id': error.name, 'reason': error.reason}])

  def gather(self, reader, sources):
    """Lists what other processes met, too; every process calls it."""
    if jax.process_count() == 1:
      return
    items = pair_examples.Headers(reader, sources).items
    met = processes.gathered(
        np.array([item.id in self._ids for item in items])).any(0)
    for item in (items[i] for i in np.flatnonzero(met)):
      # Reasons are texts, which do not travel: the few bad ones fail again.
      if processes.first() and item.id not in self._ids:
        try:
          reader(item)
        except media.MediaError as error:
          self(error)


def encoder(run, row, n_frames=0, whole=False):
  """A retrieval.Encoder of a row; what it leaves out goes to skipped.jsonl.

  whole: whether eval.truncate_dim does not count.
  """
  config, params = run.trained[row]
  # Configs of old work directories have no such field.
  truncate_dim = 0 if whole else config.eval.get('truncate_dim', 0)
  seen = ConfigDict(config.to_dict())
  if n_frames:
    seen.media.n_frames = n_frames
  if config.eval.max_tokens:
    seen.data.max_tokens = config.eval.max_tokens
  model = embedder.Embedder(
      *run.embeds.served(run.embeds.model(config, run.tokenizer), params),
      run.embeds.reader(seen, run.tokenizer), run.mesh,
      tuple(config.eval.shape) or None, truncate_dim or None)

  return retrieval.Encoder(
      encode_all(model, run.config.eval, run.workdir),
      {'weights': sharding.checksum(params), **run.embeds.fingerprint(seen),
       **({'truncate_dim': truncate_dim} if truncate_dim else {})})


def encode_all(model, options, workdir):
  """(items, prompt) -> [N, D] of an Embedder; see retrieval.Encoder.

  options: config.eval. What cannot be used goes to skipped.jsonl.
  """
  def encode(items, prompt):
    skipped = []
    def failed(error):
      name, _, reason = str(error).partition(': ')
      skipped.append({'id': name, 'reason': reason})
    vectors = model.encode(items, prompt, options.batch_size, failed,
                           show_progress=processes.first())
    if skipped:
      run_lib.list_skipped(workdir, options.split, skipped)
    return vectors
  return encode
