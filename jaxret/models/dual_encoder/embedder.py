"""Opens CLIP, SigLIP or SigLIP 2 to embed with it."""
from jaxret.models.dual_encoder import files


def open_embedder(path, mesh, dtype='float32'):
  """(DualEncoderConfig, {'params': ...} on the mesh) of a directory or hub model.
  """
  config = files.read_config(path, dtype=dtype, param_dtype=dtype)
  return config, files.load(path, config, mesh)
