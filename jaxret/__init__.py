"""Multimodal retrieval with multi-modal large language models in JAX.

  jaxret.load(path)                           a model that embeds items
  jaxret.score_matrix(videos, texts, model)   both likelihoods of all pairs

`import jaxret` costs nothing: what is named here is imported when it is used.
"""
import importlib

__version__ = '0.1.0'

_EXPORTS = {'load': 'jaxret.loading',
            'score_matrix': 'jaxret.methods.blim.score'}


def __getattr__(name):
  if name not in _EXPORTS:
    raise AttributeError(f'module jaxret has no attribute {name!r}')
  return getattr(importlib.import_module(_EXPORTS[name]), name)
