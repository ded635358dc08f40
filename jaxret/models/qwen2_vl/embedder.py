"""Opens a Qwen2-VL checkpoint, UNITE's among others, to embed with it."""
import dataclasses

from jaxret.models import adapter_import, adapters
from jaxret.models.qwen2_vl import files


def open_embedder(path, mesh, dtype='float32', position_mode='sequential',
                  adapter=None, pooling='last'):
  """(Qwen2VlConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  pooling: see Qwen2VlConfig.
  """
  return open_family(
      files.FAMILY, path, mesh, dtype, position_mode, adapter, pooling)


def open_family(family, path, mesh, dtype, position_mode, adapter, pooling):
  """As `open_embedder`, of a files.Family."""
  config, _ = files.read_family(
      family, path, position_mode, dtype=dtype, param_dtype=dtype)
  config = dataclasses.replace(config, pooling=pooling)
  params = files.load(path, config, mesh, head=False)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, config.weights, params))
  return config, params
