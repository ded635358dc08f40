"""What UNITE is trained on, from a config."""
from jaxret.data import sets
from jaxret.data.sets import pair_files


def training_pairs(config):
  """{source: pairs} of the config's data set."""
  module = sets.get(config.data.name, 'training_pairs', 'load')
  if hasattr(module, 'training_pairs'):
    return module.training_pairs(config.data)
  return pair_files.of_split(sets.load(config.data, 'train'))
