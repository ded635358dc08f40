"""Opens Qwen3-VL-Embedding, or a Qwen3-VL, to embed with it."""
from jaxret.models import adapter_import, adapters, names
from jaxret.models.qwen3_vl import files


def open_embedder(path, mesh, dtype='float32', adapter=None):
  """(Qwen3VlConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  """
  config, _ = files.read_config(path, dtype=dtype, param_dtype=dtype)
  params = files.load(path, config, mesh, head=False)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, names.QWEN3_VL, params))
  return config, params
