"""Opens a Qwen2.5-VL checkpoint to embed with it."""
from jaxret.models.qwen2_vl import embedder
from jaxret.models.qwen25_vl import files


def open_embedder(path, mesh, dtype='float32', position_mode='sequential',
                  adapter=None, pooling='last'):
  """As qwen2_vl.embedder.open_embedder, of a Qwen25VlConfig."""
  return embedder.open_family(
      files.FAMILY, path, mesh, dtype, position_mode, adapter, pooling)
