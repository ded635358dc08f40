"""Opens an MM-Embed or NV-Embed-v1 checkpoint to embed with it."""
from jaxret.models.llava import mm_embed, mm_embed_files


def open_embedder(path, mesh, dtype='float32'):
  """(MmEmbedConfig, {'params': ...} on the mesh), latent attention folded.

  path: a directory or hub model.
  """
  config = mm_embed_files.read_config(
      path, dtype=dtype, param_dtype=dtype).config
  return mm_embed.fold(config, mm_embed_files.load(path, config, mesh))
