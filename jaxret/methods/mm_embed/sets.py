"""What MM-Embed is trained, mined and evaluated on, from a config."""
import pathlib

from jaxret.data import sets
from jaxret.data.sets import mixed


def training_sets(config, names=()):
  """{source: mixed.TrainingSet} of the config's data; `names` = only these."""
  module = sets.get(config.data.name, 'training_sets')
  return module.training_sets(config, names)


def training_pairs(config):
  """{source: mixed.Pairs} without negatives."""
  return {name: mixed.Pairs(training_set, config.seed)
          for name, training_set in training_sets(config).items()}


def evaluated(config):
  """[mixed.Benchmark] that config.eval.benchmarks names, their files read.

  Their files lie in eval.root (empty = data.root), of several each in a
  directory of its name.
  """
  names, benchmarks = config.eval.benchmarks, []
  for name in names:
    module = sets.get(name, 'benchmark', field='eval.benchmarks')
    root = config.eval.root or config.data.root
    if len(names) > 1 and root:
      root = str(pathlib.Path(root) / name)
    benchmarks.append(module.benchmark(config, root))
  return benchmarks
