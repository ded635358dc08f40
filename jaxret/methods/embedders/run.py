"""Evaluates a published embedder on own media or on benchmarks."""
import pathlib

from absl import logging

from jaxret import loading, progress, protocols, retrieval, sharding
from jaxret import run as run_lib
from jaxret.data import media
from jaxret.data.dual_encoder import pixels
from jaxret.methods import embedding_run
from jaxret.methods import evaluated as evaluated_lib

# Fields of config.model that are options of jaxret.load where they are set.
OPTIONS = ('adapter', 'dtype', 'recipe', 'prompt', 'pooling', 'position_mode',
           'max_tokens', 'trim_text')


def evaluate(config, workdir):
  """Every benchmark that the config names; returns the results of the last."""
  if not config.model.pretrained:
    raise ValueError('model.pretrained is empty: name a directory or hub '
                     'model that jaxret.load opens')
  if not config.eval.benchmarks:
    raise ValueError('eval.benchmarks is empty: name one at least, as '
                     "('folder',)")
  mesh = run_lib.open_workdir(config, workdir)
  evaluated = evaluated_lib.evaluated(config)
  run_lib.leave_out_entries(config, workdir, config.eval.split, [
      one for each in evaluated for one in each.left_out])
  model = open_model(config, mesh)
  logging.info('%s: %r', config.model.pretrained, model)
  results = None
  phases = embedding_run.phases_of((), evaluated)[1:]
  for one in evaluated:
    progress.phase(phases, embedding_run.evaluating(one.name))
    where = pathlib.Path(workdir) / (one.name if len(evaluated) > 1 else '')
    encoder = retrieval.Encoder(
        embedding_run.encode_all(model, config.eval, workdir),
        fingerprint(config, model))
    results, answers = retrieval.evaluate(
        one.tasks, {config.method: encoder}, where, one.name,
        config.eval.split, one.recall_at, sharding.local_mesh())
    if results is not None:
      publish(config, workdir, one, results, answers, where)
  return results


def publish(config, workdir, one, results, answers, where):
  """Completes the results of an Evaluated and writes them, and the report."""
  if one.groups:
    results['means'] = retrieval.group_means(results, one.groups)
  results['model'] = config.model.pretrained
  protocols.add(results, config, one.root, one.tasks,
                protocols.counts_of(results))
  results['left_out'] = run_lib.left_out(workdir)
  shown = config.eval.gallery_queries // 2
  run_lib.publish(config, where, results,
                  gallery=retrieval.gallery(answers, shown, shown),
                  queries=retrieval.all_queries(answers))


def open_model(config, mesh):
  """The Embedder of config.model.

  Errors: as jaxret.load; an option without effect on this model is refused.
  """
  options = {name: config.model[name] for name in OPTIONS
             if config.model[name]}
  if config.model.max_frames:
    options['resolution'] = pixels.Resolution(config.model.max_frames)
  return loading.load(
      config.model.pretrained, alpha=config.data.alpha, mesh=mesh,
      truncate_dim=config.eval.truncate_dim or None, **options)


def fingerprint(config, model):
  """What embeddings depend on besides items and prompts."""
  return {'weights': sharding.checksum(model.params),
          'reading': media.READING, 'alpha': config.data.alpha,
          'truncate_dim': config.eval.truncate_dim,
          'model': str(model.config), 'max_frames': config.model.max_frames,
          **{name: config.model[name] for name in OPTIONS
             if name != 'adapter'}}  # its weights are merged
