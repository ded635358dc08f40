"""A whole run of a method that embeds: stages of training, then any tasks.

`config.before` names stages that are trained first, `config.compare` runs that
are trained beside the method from the same start; each is a section of the
config with what it changes, and `starts_from` says which stage it goes on
from. What is trained where: <stage>/ in the workdir, and the method in the
workdir itself. What else such a method must offer: methods.base.Embeds.
"""
import functools
import pathlib
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from jaxret import embedder as embedding
from jaxret import methods, optim, processes, retrieval, sharding
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.data import mixture as mixture_lib
from jaxret.data import pair_examples
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.sets import splits


class Run(NamedTuple):
  """What all parts of a run share.

  embeds: methods.base.Embeds. trained: {row: (config, params)}, which grows.
  """
  config: ConfigDict
  workdir: pathlib.Path
  mesh: Any
  embeds: Any
  tokenizer: Any
  trained: dict


def train_and_evaluate(config, workdir):
  """Trains what the config names, then evaluates it."""
  return evaluate_all(*train_all(config, workdir))


def train_all(config, workdir, prepare=None):
  """Trains the stages that `config.before` names and the method.

  prepare: (Run, Stage, {source: pairs}) -> {source: pairs} that the stage is
  trained on, with negatives that an earlier stage finds, say; called before
  each stage. Returns (Run, what `embeds.evaluated` gives).
  """
  embeds = check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  evaluated = embeds.evaluated(config)  # before hours of training
  found = embeds.training_pairs(config)
  for stage in stages(config, workdir):
    _sources(stage.config, found)
  tokenizer = run_lib.open_tokenizer(
      config, workdir, _texts(config, found), **embeds.tokenizer_options())
  reader = embeds.reader(config, tokenizer, int(config.data.cache_gb * 2 ** 30))
  found = readable(workdir, reader, found)
  run = Run(config, pathlib.Path(workdir), mesh, embeds, tokenizer, {})
  for stage in stages(config, workdir):
    pairs = prepare(run, stage, found) if prepare else found
    run.trained[stage.row] = stage.config, train(run, stage, pairs, reader)
  return run, evaluated


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or the weights it names."""
  return evaluate_all(*open_trained(config, workdir))


def open_trained(config, workdir):
  """As `train_all`, of what was trained before, or of published weights."""
  embeds = check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  evaluated = embeds.evaluated(config)
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
  run = Run(config, pathlib.Path(workdir), mesh, embeds, tokenizer, models)
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
    embeds.check(stage.config)
  return embeds


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


def train(run, stage, found, reader):
  """Trains one stage from where it starts; returns its parameters."""
  config = stage.config
  method = methods.get(config.method).method(config, run.tokenizer)
  examples, order = make_examples(config, method, reader, found)
  logging.info('training %s on %d pairs of %s', stage.row, len(examples),
               ', '.join(_sources(config, found)))
  params = None
  if run_lib.earlier_run(config, stage.directory) is not None:
    params = run_lib.start(
        config, method, run.tokenizer, stage.directory, run.mesh)
  params = train_lib.fit(method, examples, config, stage.directory, run.mesh,
                         params, order)
  if 'lora' in params:
    trained = optim.partition(params, method.trainable)[0].get('params', {})
    run_lib.export_adapter(config, stage.directory, params,
                           run.embeds.weight_names, tuple(trained))
  return params


def make_examples(config, method, reader, found):
  """(examples, order) of a stage, from the pairs of its sources.

  With batches of one source each, every source has shapes of its own.
  """
  names = _sources(config, found)
  chosen = {name: found[name] for name in names}
  mixture = mixture_lib.Mixture(chosen)
  weights = dict(zip(names, config.pairs.weights)) or None
  order = mixture_lib.MixedOrder(mixture, config.train.batch_size, config.seed,
                               weights, config.pairs.per_source)
  make = functools.partial(
      method.examples, its_reader=reader, shapes=_shapes(config))
  if not config.pairs.per_source:
    return make(mixture), order
  return pair_examples.JoinedExamples(
      {name: make(source) for name, source in chosen.items()}), order


def _shapes(config):
  """{side: data.shape}; None = measured from all media."""
  if not config.data.shape:
    return None
  return dict.fromkeys(pair_examples.SIDES, tuple(config.data.shape))


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


def readable(workdir, reader, found):
  """The pairs whose media can be read; the others go to skipped.jsonl."""
  media = {}
  for pairs in found.values():
    for pair in (pairs[i] for i in range(len(pairs))):
      for item in (pair.query, pair.candidate, pair.negative):
        if item is not None and (item.image or item.video):
          media.setdefault((item.image, item.video), item)
  scan = inputs_lib.Scan(reader, list(media.values()))
  ids = [repr(key) for key in media]
  bad = run_lib.unreadable(
      ids, scan, pathlib.Path(workdir) / 'media' / 'train.json')
  if not bad:
    return found
  run_lib.leave_out(workdir, 'train', [
      {'id': item.id, 'reason': bad[name]}
      for name, item in zip(ids, media.values()) if name in bad],
                    len(ids), 'media')
  def good(pair):
    return all(repr((item.image, item.video)) not in bad for item in (
        pair.query, pair.candidate, pair.negative) if item is not None)
  kept = {name: [pairs[i] for i in range(len(pairs)) if good(pairs[i])]
          for name, pairs in found.items()}
  return {name: pairs for name, pairs in kept.items() if pairs}


def evaluate_all(run, evaluated):
  """Evaluates what was trained on every Evaluated.

  Of several each gets a directory of its own. Returns the results of the last,
  None on other processes.
  """
  results = None
  for one in evaluated:
    encoders = {row: encoder(run, row, one.n_frames) for row in run.trained}
    where = run.workdir / one.name if len(evaluated) > 1 else run.workdir
    logging.info('evaluating %s on %d tasks of %s', ', '.join(encoders),
                 len(one.tasks), one.name)
    results, answers = retrieval.evaluate(
        one.tasks, encoders, where, one.name, run.config.eval.split,
        one.recall_at, sharding.local_mesh())
    if results is not None:
      if one.groups:
        results['means'] = retrieval.group_means(results, one.groups)
      note = one.split and splits.note(
          run_lib.trained_on(run.config, run.workdir), one.split)
      if note:
        results['note'] = note
      results['left_out'] = run_lib.left_out(run.workdir)
      shown = run.config.eval.gallery_queries // 2
      run_lib.publish(
          run.config, where, results,
          gallery=retrieval.gallery(answers, shown, shown))
  return results


def encoder(run, row, n_frames=0):
  """A retrieval.Encoder of a row; what it leaves out goes to skipped.jsonl."""
  config, params = run.trained[row]
  seen = ConfigDict(config.to_dict())
  if n_frames:
    seen.media.n_frames = n_frames
  if config.eval.max_tokens:
    seen.data.max_tokens = config.eval.max_tokens
  model = embedding.Embedder(
      *run.embeds.served(run.embeds.model(config, run.tokenizer), params),
      run.embeds.reader(seen, run.tokenizer), run.mesh,
      tuple(config.eval.shape) or None)

  def encode(items, prompt):
    skipped = []
    def failed(error):
      name, _, reason = str(error).partition(': ')
      skipped.append({'id': name, 'reason': reason})
    vectors = model.encode(items, prompt, config.eval.batch_size, failed,
                           show_progress=processes.first())
    if skipped:
      run_lib.list_skipped(run.workdir, config.eval.split, skipped)
    return vectors

  return retrieval.Encoder(encode, {
      'weights': sharding.checksum(params), **run.embeds.fingerprint(seen)})
