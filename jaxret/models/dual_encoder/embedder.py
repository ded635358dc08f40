"""Opens CLIP, SigLIP or SigLIP 2 to embed with it."""
from jaxret.models.dual_encoder import files


def open_embedder(path, mesh, dtype='float32'):
  """(DualEncoderConfig, {'params': ...} on the mesh) of what is at `path`.

  path: a directory or hub model. dtype: of weights and computation.
  """
  config = files.read_config(path, dtype=dtype, param_dtype=dtype)
  return config, files.load(path, config, mesh)
