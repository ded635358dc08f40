"""Opens a Qwen2.5-VL checkpoint to continue prompts with it."""
from jaxret.models.qwen2_vl import generator
from jaxret.models.qwen25_vl import files

init, load = generator.init, generator.load


def read_config(path, **numerics):
  """The Qwen25VlConfig of a directory or hub model; see files.read_config."""
  return files.read_config(path, 'mrope', **numerics).config


def open_generator(path, mesh, dtype='float32', adapter=None):
  """As qwen2_vl.generator.open_generator, of a Qwen25VlConfig."""
  return generator.open_family(files.FAMILY, path, mesh, dtype, adapter)
