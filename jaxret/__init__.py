"""Multimodal retrieval with multi-modal large language models in JAX.

  jaxret.load(path)                           a model that embeds items, an
                                              Embedder
  jaxret.score_matrix(items, texts, model)    the likelihoods of all pairs of
                                              images, videos and texts
  jaxret.search_pairs(videos, texts, model)   the best of them, proved, from
                                              a few of the pairs
  jaxret.score_sequences(prefixes, suffixes, model)
                                              the likelihood of each suffix
                                              behind each prefix
  jaxret.answer(items, questions, choices, model)
                                              multiple choice, with CPN
  jaxret.rerank(query, candidates, model)     how well candidates answer it
  jaxret.load_reranker(path)                  a model for that, a Reranker
  jaxret.generate(items, prompts, model)      what it writes, with CPN
  jaxret.load_generator(path)                 a model for these, a Generator
  jaxret.index(folder, model, out)            one's own media, to be searched
  jaxret.open_index(out)                      and an Index to search in

`import jaxret` costs nothing: what is named here is imported when it is used.
"""
import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'
__all__ = ('Embedder', 'Generator', 'Index', 'Reranker', 'answer', 'generate',
           'index', 'load', 'load_generator', 'load_reranker', 'open_index',
           'rerank', 'score_matrix', 'score_sequences', 'search_pairs')

_EXPORTS = {'Embedder': 'jaxret.embedder', 'Generator': 'jaxret.generator',
            'Index': 'jaxret.indexing.query',
            'Reranker': 'jaxret.reranking.reranker',
            'answer': 'jaxret.answers', 'generate': 'jaxret.writing',
            'index': 'jaxret.indexing.build',
            'open_index': 'jaxret.indexing.query',
            'load': 'jaxret.loading', 'load_generator': 'jaxret.loading',
            'load_reranker': 'jaxret.reranking.rerank',
            'rerank': 'jaxret.reranking.rerank',
            'score_matrix': 'jaxret.methods.blim.score',
            'score_sequences': 'jaxret.sequences',
            'search_pairs': 'jaxret.methods.blim.search_pairs'}

if TYPE_CHECKING:  # type checkers and editors see them; nothing is imported
  from jaxret.answers import answer
  from jaxret.embedder import Embedder
  from jaxret.generator import Generator
  from jaxret.indexing.build import index
  from jaxret.indexing.query import Index, open_index
  from jaxret.loading import load, load_generator
  from jaxret.methods.blim.score import score_matrix
  from jaxret.methods.blim.search_pairs import search_pairs
  from jaxret.reranking.rerank import load_reranker, rerank
  from jaxret.reranking.reranker import Reranker
  from jaxret.sequences import score_sequences
  from jaxret.writing import generate
else:  # theirs would know of no wrong name if they saw this
  def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
      raise AttributeError(f'module jaxret has no attribute {name!r}')
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_EXPORTS})
