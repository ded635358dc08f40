"""Opens a Qwen2-VL checkpoint, UNITE's among others, to embed with it."""
from jaxret.models import adapter_import, adapters
from jaxret.models.qwen2_vl import files


def open_embedder(path, mesh, dtype='float32', position_mode='sequential',
                  adapter=None):
  """(Qwen2VlConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  """
  return open_family(files.FAMILY, path, mesh, dtype, position_mode, adapter)


def open_family(family, path, mesh, dtype, position_mode, adapter):
  """As `open_embedder`, of a files.Family."""
  config, _ = files.read_family(
      family, path, position_mode, dtype=dtype, param_dtype=dtype)
  params = files.load(path, config, mesh, head=False)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, config.weights, params))
  return config, params
