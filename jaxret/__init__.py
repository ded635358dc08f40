"""Multimodal retrieval with multi-modal large language models in JAX.

  jaxret.load(path)                           a model that embeds items, an
                                              Embedder
  jaxret.score_matrix(videos, texts, model)   both likelihoods of all pairs

`import jaxret` costs nothing: what is named here is imported when it is used.
"""
import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'
__all__ = ('Embedder', 'load', 'score_matrix')

_EXPORTS = {'Embedder': 'jaxret.embedder', 'load': 'jaxret.loading',
            'score_matrix': 'jaxret.methods.blim.score'}

if TYPE_CHECKING:  # type checkers and editors see them; nothing is imported
  from jaxret.embedder import Embedder
  from jaxret.loading import load
  from jaxret.methods.blim.score import score_matrix
else:  # theirs would know of no wrong name if they saw this
  def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
      raise AttributeError(f'module jaxret has no attribute {name!r}')
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_EXPORTS})
