"""What is done for a request, apart from HTTP: searches, and what hits are."""
import hashlib
import math
import pathlib
import re
import threading
import time
from typing import Any

import numpy as np

from jaxret.data import types
from jaxret.indexing import hits as hits_lib
from jaxret.indexing import page, query, second_look
from jaxret.serving import batching, parameters, uploads
from jaxret.serving.refusals import Refused

REFRESH_S = 2  # from one look for what was indexed since to the next
# A new version is read at most this share of the time, where a run of jaxret
# index writes one after the other and they are large.
READING_SHARE = 0.1
SHOWN_LETTERS = 2000  # of a text; all of it is at /media/ID
_ID = re.compile('([0-9a-f]{1,15})-([0-9a-f]{12})')


class Service:
  """An open index, and the models that searches in it use.

  rerank, likelihood: see Index.search, open; candidates: how many they look at;
  prompt: of queries, see Embedder.encode. Any number of threads may ask.
  """

  def __init__(self, index: query.Index, rerank: Any = None,
               candidates: int = 50, prompt: str | None = None,
               likelihood: Any = None):
    self.index, self.model = index, index.model
    self.looks = {name: model for name, model in (
        ('rerank', rerank), ('likelihood', likelihood)) if model is not None}
    self._candidates = candidates
    def encode(items):
      return np.asarray(self.model.encode(
          items, prompt, batch_size=batching.MOST, show_progress=False))
    # A long video does not keep texts waiting.
    self._texts = batching.Together(encode)
    self._media = batching.Together(encode, 4)
    self._refreshing = threading.Lock()
    self._refresh_at = 0.0

  def about(self) -> dict[str, Any]:
    """What is said of the index."""
    self._refresh()
    return {'rows': len(self.index), 'model': self.index.made.model['name'],
            'rerank': 'rerank' in self.looks,
            'likelihood': 'likelihood' in self.looks}

  def search(self, asked: parameters.Asked,
             upload: pathlib.Path | None = None) -> dict[str, Any]:
    """The hits, for JSON; Refused or ValueError say what is wrong.

    upload: a file to search by, with or without a text.
    """
    start = time.perf_counter()
    if asked.rerank and asked.likelihood:
      raise Refused(400, 'rerank and likelihood each sort the hits; ask for '
                    'one')
    if asked.look and asked.look not in self.looks:
      raise Refused(400, f'no model for {asked.look} is open; serve with '
                    f'--{asked.look}=MODEL')
    self._refresh()
    if asked.like is not None:
      if asked.text is not None or upload is not None:
        raise Refused(400, 'like: a hit is searched by alone; give no text and '
                      'no upload with it')
      hits = self._like(asked)
    else:
      hits = self._of_item(self._item(asked, upload), asked)
    return {'hits': [self.shown(hit) for hit in hits[:asked.k]],
            'seconds': round(time.perf_counter() - start, 4)}

  def shown(self, hit: hits_lib.Hit) -> dict[str, Any]:
    """A hit for JSON."""
    said = {name: None if isinstance(value, float) and not math.isfinite(value)
            else value for name, value in hit.to_json().items()}
    if hit.text is not None:
      said['text'] = hit.text[:SHOWN_LETTERS]
    gone = hit.kind != 'text' and self.index.file_of(hit) is None
    return said | {'id': id_of(hit), 'moment': page.moment(hit), 'gone': gone}

  def hit(self, name: str) -> hits_lib.Hit:
    """The hit of an id, its score NaN; Refused where there is none."""
    parsed = _ID.fullmatch(name)
    for hit in self.index.of_file(int(parsed[1], 16)) if parsed else ():
      if id_of(hit) == name:
        return hit
    raise Refused(404, 'the index has no such row; search again')

  def _refresh(self):
    """Takes in what was indexed since, now and then."""
    if time.monotonic() < self._refresh_at or (
        not self._refreshing.acquire(blocking=False)):
      return
    try:
      start = time.monotonic()
      if self.index.refresh():
        len(self.index)  # which reads it
      took = time.monotonic() - start
      self._refresh_at = time.monotonic() + max(
          REFRESH_S, took / READING_SHARE)
    finally:
      self._refreshing.release()

  def _item(self, asked, upload):
    """The Item of a query."""
    if upload is not None:
      return uploads.item(upload, asked.text)
    if asked.text is None:
      raise Refused(400, 'got no query; give text or like, or send an image or '
                    'a video by POST')
    return types.Item('the query', asked.text)

  def _of_item(self, item, asked):
    is_text = item.image is None and item.video is None
    try:
      vector = (self._texts if is_text else self._media)(item)
    except ValueError as error:
      raise Refused(400, _without(str(error), item.image, item.video)
                    ) from error
    return self._found(vector, item, asked)

  def _like(self, asked):
    """What is like a hit, without the hit itself."""
    hit = self.hit(asked.like)
    try:
      vector = self.index.vector(hit)
    except ValueError:  # found by the approximate index, or changed just now
      vector = self._media(self.index.item(hit))
    item = self.index.item(hit) if asked.look else None
    found = self._found(vector, item, asked._replace(k=asked.k + 1))
    return [one for one in found if id_of(one) != asked.like]

  def _found(self, vector, item, asked):
    """Hits for a vector [D]; item: what a second look is shown of the query."""
    k = max(asked.k, self._candidates) if asked.look else asked.k
    found = self.index.search(vector, k, **asked.filters)
    if not asked.look:
      return found
    there = [hit for hit in found if hit.kind == 'text'
             or self.index.file_of(hit) is not None]
    if asked.likelihood:
      kinds = second_look.kinds_by_likelihood(item)
      there = [hit for hit in there if hit.kind in kinds]
      if found and not there:
        raise Refused(400, f'likelihood ranks {" and ".join(kinds)} for such a '
                      'query, and none is among the best: filter by kind')
    look = second_look.chosen(
        self.looks.get('rerank') if asked.rerank else None,
        self.looks.get('likelihood') if asked.likelihood else None,
        self._candidates, asked.k)
    return look(item, there, self.index.item) if there else []


def id_of(hit: hits_lib.Hit) -> str:
  """What URLs call a hit: no path, and no row of another version."""
  said = f'{hit.start_s}\0{hit.path}'.encode()
  return f'{hit.file:x}-{hashlib.sha256(said).hexdigest()[:12]}'


def _without(message, *files):
  """A message without the names of files that the client does not know."""
  for file in filter(None, files):
    message = message.replace(str(file), 'the upload')
  return message
