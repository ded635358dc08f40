"""What MM-Embed is trained, mined and evaluated on, from a config."""
import pathlib

from jaxret.data.sets import beir, circo, mbeir, mixed
from jaxret.data.sets import splits as sources
from jaxret.data.shapes import mixed as shapes_mixed

BENCHMARKS = ('shapes', 'mbeir', 'beir', 'circo')


def training_sets(config, names=()):
  """{source: mixed.TrainingSet} of the config's data; `names` = only these.

  data.name 'mbeir': the source mbeir from data.root, and each of
  data.text_sets from its folder in data.text_root.
  """
  data = config.data
  if data.name == 'shapes':
    return shapes_mixed.training_sets(
        sources.shapes_root(data), data.seed, data.texts['train'])
  if data.name != 'mbeir':
    raise ValueError(f"data.name is {data.name!r}; use 'shapes' or 'mbeir'")
  wanted = names or ('mbeir', *data.text_sets)
  found = {}
  if 'mbeir' in wanted:
    found['mbeir'] = mbeir.training_set(data.root, data.tidy)
  for name in data.text_sets:
    if name in wanted:
      found[name] = beir.training_set(data.text_root, name)
  return found


def training_pairs(config):
  """{source: mixed.Pairs} without negatives."""
  return {name: mixed.Pairs(training_set, config.seed)
          for name, training_set in training_sets(config).items()}


def evaluated(config):
  """[mixed.Benchmark] that config.eval.benchmarks names, their files read.

  Their files lie in eval.root (empty = data.root), of several each in a
  directory of its name.
  """
  settings, found = config.eval, []
  for name in settings.benchmarks:
    root = settings.root or config.data.root
    if len(settings.benchmarks) > 1 and root:
      root = str(pathlib.Path(root) / name)
    found.append(_open(config, name, root))
  return found


def _open(config, name, root):
  settings, data = config.eval, config.data
  if name == 'shapes':
    return shapes_mixed.benchmark(
        sources.shapes_root(data), settings.split, data.seed,
        data.texts[settings.split])
  if name == 'mbeir':
    return mbeir.load(root, settings.split, settings.tasks, data.tidy)
  if name == 'beir':
    return beir.load(root, settings.split, settings.tasks)
  if name == 'circo':
    return circo.load(root, settings.split, settings.circo_instruction)
  raise ValueError(f'eval.benchmarks names {name!r}; there is '
                   f'{", ".join(BENCHMARKS)}')
