"""What LECCR is trained and evaluated on, from a config."""
from jaxret.data import sets


def load_split(config, name, language):
  """(ParallelSplit, {visual id: 'file, line n'}) of the config's data set."""
  module = sets.get(config.data.name, 'parallel')
  return module.parallel(config.data, name, language)


def file_names(section, split):
  """{id: file of the image} where descriptions are named by these, or None."""
  module = sets.get(section.name, 'parallel')
  if not hasattr(module, 'file_names'):
    return None
  return module.file_names(section, split)
