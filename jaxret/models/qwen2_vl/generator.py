"""Opens a Qwen2-VL checkpoint to continue prompts with it."""
import functools

from jaxret.models import adapter_import, adapters
from jaxret.models.qwen2_vl import files, model

init, load = model.init, functools.partial(files.load, generates=True)


def open_generator(path, mesh, dtype='float32', adapter=None):
  """(Qwen2VlConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  Raises ValueError for files without an output head, what was trained to embed
  for example.
  """
  return open_family(files.FAMILY, path, mesh, dtype, adapter)


def read_config(path, **numerics):
  """The Qwen2VlConfig of a directory or hub model; see files.read_family."""
  return files.read_config(path, 'mrope', **numerics).config


def open_family(family, path, mesh, dtype, adapter):
  """As `open_generator`, of a files.Family."""
  config, _ = files.read_family(
      family, path, 'mrope', dtype=dtype, param_dtype=dtype)
  params = load(path, config, mesh)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, config.weights, params))
  return config, params
