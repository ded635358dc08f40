"""Opens an MM-Embed or NV-Embed-v1 checkpoint to embed with it."""
from jaxret.models import adapter_import, adapters
from jaxret.models.llava import mm_embed, mm_embed_files


def open_embedder(path, mesh, dtype='float32', adapter=None):
  """(MmEmbedConfig, {'params': ...} on the mesh), latent attention folded.

  path: a directory or hub model. adapter: the same of a PEFT adapter,
  merged into the weights.
  """
  config = mm_embed_files.read_config(
      path, dtype=dtype, param_dtype=dtype).config
  params = mm_embed_files.load(path, config, mesh)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, mm_embed_files.weight_names(config), params))
  return mm_embed.fold(config, params)
