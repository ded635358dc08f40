"""Opens a Qwen3-VL checkpoint to continue prompts with it."""
import dataclasses
import functools

from jaxret.models import adapter_import, adapters, names
from jaxret.models.qwen3_vl import files, model

init, load = model.init, functools.partial(files.load, generates=True)


def read_config(path, **numerics):
  """The Qwen3VlConfig of a directory or hub model, its processor in it.

  Raises ValueError as files.read_config and files.read_processor do.
  """
  config, _ = files.read_config(path, **numerics)
  return dataclasses.replace(config, processor=files.read_processor(path))


def open_generator(path, mesh, dtype='float32', adapter=None):
  """(Qwen3VlConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  Raises ValueError for files without an output head, what was trained to embed
  for example.
  """
  config = read_config(path, dtype=dtype, param_dtype=dtype)
  params = load(path, config, mesh)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, names.QWEN3_VL, params))
  return config, params
