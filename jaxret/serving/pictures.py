"""Thumbnails of hits, made when they are asked for, the latest ones kept."""
import collections
import threading

from jaxret.indexing import hits as hits_lib
from jaxret.indexing import page, query

SIZES = (320, 1280)  # of the longer side: in the grid, and large
KEPT_BYTES = 64 << 20


class Pictures:
  """JPEGs of hits of an index; any number of threads may ask."""

  def __init__(self, index: query.Index, kept_bytes: int = KEPT_BYTES):
    self._index, self._room = index, kept_bytes
    self._kept: collections.OrderedDict = collections.OrderedDict()
    self._lock = threading.Lock()

  def of(self, hit: hits_lib.Hit, px: int) -> bytes | None:
    """None of a text, and of what is gone or cannot be read any more."""
    file = self._index.file_of(hit)
    if file is None or hit.kind == 'text':
      return None
    key = (hit.file, hit.path, hit.start_s, hit.mtime_ns, px)
    with self._lock:
      if key in self._kept:
        self._kept.move_to_end(key)
        return self._kept[key]
    item = hits_lib.item_of(hit, file)
    jpeg = page.jpeg_of(hit.kind, item.video if hit.kind == 'video'
                        else item.image, px)
    # It is looked at again: a link may have been put there meanwhile.
    if jpeg is None or self._index.file_of(hit) is None:
      return None
    self._keep(key, jpeg)
    return jpeg

  def _keep(self, key, jpeg):
    with self._lock:
      if key not in self._kept:
        self._kept[key] = jpeg
        self._room -= len(jpeg)
      while self._room < 0:
        _, old = self._kept.popitem(last=False)
        self._room += len(old)
