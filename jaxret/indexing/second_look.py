"""The best rows of a search, looked at again by a larger model."""
import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jaxret.data import types
from jaxret.indexing import hits as hits_lib

# (query, hits, what is shown of a hit) -> the hits, sorted anew.
SecondLook: TypeAlias = Callable[
    [types.Item, list[hits_lib.Hit], Callable[[hits_lib.Hit], types.Item]],
    list[hits_lib.Hit]]


def chosen(rerank: Any, likelihood: Any, candidates: int, k: int
           ) -> SecondLook | None:
  """The SecondLook that is asked for, None where none is."""
  if rerank is not None and likelihood is not None:
    raise ValueError('rerank and likelihood each sort the hits: give one')
  model = rerank if rerank is not None else likelihood
  if model is None:
    return None
  if candidates < 1:
    raise ValueError(f'candidates is {candidates}; want 1 at least')
  look = by_reranker if rerank is not None else by_likelihood
  return lambda query, hits, item_of: look(
      model, query, hits[:max(candidates, k)], item_of)


def kinds_by_likelihood(query: types.Item) -> tuple[str, ...]:
  """The kinds of hits that `by_likelihood` ranks for a query."""
  return ('image', 'video') if query.text is not None else ('text',)


def by_reranker(model, query, hits, item_of):
  """Sorts hits by jaxret.rerank; `rerank` of each is its score, 0 to 1."""
  from jaxret.reranking import rerank as rerank_lib
  found = rerank_lib.rerank(query, [item_of(hit) for hit in hits], model,
                            show_progress=False)
  return _sorted(hits, found.scores, 'rerank', found.log_odds)


def by_likelihood(model, query, hits, item_of):
  """Sorts hits by jaxret.score_matrix, with CPN where texts are ranked.

  A text asks for images and videos, by log P(text | medium) and what BLiM adds
  to it; an image or a video asks for texts, by log P(text | medium) less a
  share of log P(text). In nats a token.
  """
  from jaxret.methods.blim import score
  asked = [name for name in ('text', 'image', 'video')
           if getattr(query, name) is not None]
  if len(asked) != 1:
    raise ValueError(f'likelihood: the query has {" and ".join(asked)}; want '
                     'one of them')
  of_text = asked == ['text']
  wrong = [hit for hit in hits if (hit.kind == 'text') == of_text]
  if wrong:
    want = 'image or video' if of_text else 'text'
    raise ValueError(
        f'likelihood: a query of {asked[0]} ranks {want}, got the '
        f'{wrong[0].kind} {wrong[0].path!r}: filter by kind, {want}')
  items = [item_of(hit) for hit in hits]
  if of_text:
    found = score.score_matrix(
        _media(items), [query.text], model).text_to_video()
  else:
    found = score.score_matrix(
        _media([query]), [item.text for item in items], model).video_to_text()
  return _sorted(hits, found[0], 'likelihood')


def _media(items):
  """{name: what is seen}, as score_matrix takes media of any model."""
  return {f'{number} {item.id}': item.image if item.video is None
          else item.video for number, item in enumerate(items)}


def _sorted(hits, scores, name, by=None):
  """Hits with their second scores, the best one first; NaN comes last."""
  by = scores if by is None else by
  order = np.argsort(-np.asarray(by), kind='stable')
  return [dataclasses.replace(hits[i], **{name: float(scores[i])})
          for i in order]
