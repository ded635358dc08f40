"""Opens a Qwen3-VL checkpoint to continue prompts with it."""
import dataclasses

from jaxret.models import adapter_import, adapters, names
from jaxret.models.qwen3_vl import files


def open_generator(path, mesh, dtype='float32', adapter=None):
  """(Qwen3VlConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  Raises ValueError for files without an output head, what was trained to embed
  for example.
  """
  config, _ = files.read_config(path, dtype=dtype, param_dtype=dtype)
  config = dataclasses.replace(config, processor=files.read_processor(path))
  params = files.load(path, config, mesh, generates=True)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, names.QWEN3_VL, params))
  return config, params
