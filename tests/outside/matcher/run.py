"""The run of the toy method, from jaxret's scenes."""
import numpy as np

from jaxret import methods, metrics, run, train
from jaxret.data import sets


def train_and_evaluate(config, workdir):
  mesh = run.open_workdir(config, workdir)
  method = methods.get(config.method).method(config)
  split = sets.get(config.data.name).load(config.data, 'train')
  params = train.fit(method, method.examples(split), config, workdir, mesh)
  return judge(config, workdir, params)


def evaluate(config, workdir):
  mesh = run.open_workdir(config, workdir)
  method = methods.get(config.method).method(config)
  return judge(config, workdir,
               train.restore_trained(method, config, workdir, mesh))


def judge(config, workdir, params):
  module = methods.get(config.method)
  split = sets.get(config.data.name).load(config.data, 'test')
  examples = module.Examples(split)
  found = np.asarray(module.scores(
      params, np.stack(examples.colours), np.stack(examples.words)))
  results = {'dataset': split.dataset, 'split': split.name,
             'sizes': {'videos': len(split.videos), 'texts': len(split.texts)},
             'main_row': 'matcher', 'left_out': run.left_out(workdir)}
  for name, matrix in (('text_to_video', found), ('video_to_text', found.T)):
    relevant = getattr(split, name)().relevant
    results[name] = {
        'chance': metrics.summary(metrics.ranks(0 * matrix, relevant)),
        'matcher': metrics.summary(metrics.ranks(matrix, relevant))}
  run.publish(config, workdir, results)
  return results
