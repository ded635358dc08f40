"""Opens a LLaVA-NeXT checkpoint to continue prompts with it."""
import dataclasses

from jaxret.models import adapter_import, adapters
from jaxret.models.llava import files, names


def open_generator(path, mesh, dtype='float32', adapter=None):
  """(LlavaNextConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  """
  found = files.read_config(path, dtype=dtype, param_dtype=dtype)
  params = files.load(path, found.config, mesh)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, names.LLAVA_NEXT, params))
  return dataclasses.replace(found.config, pinpoints=found.pinpoints), params
