"""Multimodal retrieval with multi-modal large language models in JAX.

This file imports nothing heavy, so that `import jaxret` costs nothing; import
the module that is needed, for instance `from jaxret import metrics`.
"""

__version__ = '0.1.0'


def load(path, **options):
  """Opens a model that embeds texts, images and videos.

  path: a directory or hub model (Qwen2-VL, UNITE), or the workdir of a
  training run. options: see jaxret.embedding.load. Returns an Embedder.
  """
  import importlib
  return importlib.import_module('jaxret.embedding').load(path, **options)
