"""One file looked at: what kind it is, what it holds, where it is cut."""
import hashlib
from typing import Any, NamedTuple

from jaxret.data import clips, entries, images, media, sources, types
from jaxret.indexing import walk, windows


class Looked(NamedTuple):
  """A file to be embedded. rows: what the table says of each of its moments,
  without a vector; items: what is embedded, one for each."""
  found: walk.Found
  sha256: str
  rows: list[dict[str, Any]]
  items: list[types.Item]


def digest(found: walk.Found) -> str:
  """32 hex digits of its content."""
  if found.file is None:
    return hashlib.sha256((found.text or '').encode()).hexdigest()[:32]
  try:
    with open(found.file, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()[:32]
  except OSError as error:
    raise sources.MediaError(found.path, f'it cannot be read '
                             f'({error.strerror})') from error


def look(found: walk.Found, sha256: str, window_s: float, stride_s: float
         ) -> Looked:
  """The Looked of a file; MediaError for one that cannot be used."""
  kind, text, duration_s = found.text and 'text', found.text, None
  if found.file is not None:
    kind, text, duration_s = _read(found)
  said = {'path': found.path, 'kind': kind, 'size': found.size,
          'mtime_ns': found.mtime_ns, 'sha256': sha256,
          'caption': found.caption, 'text': text, 'duration_s': duration_s}
  if kind == 'text':
    return Looked(found, sha256, [said], [types.Item(found.path, text)])
  if kind == 'image':
    return Looked(found, sha256, [said],
                  [types.Item(found.path, image=found.file)])
  if not duration_s:  # it states no rate, and is seen as a whole
    return Looked(found, sha256, [said],
                  [types.Item(found.path, video=found.file)])
  spans = windows.cut(duration_s, window_s, stride_s)
  rows = [said | {'start_s': start, 'end_s': end} for start, end in spans]
  items = [types.Item(f'{found.path} at {start:g} s', video=medium(
      found.file, start, end, duration_s)) for start, end in spans]
  return Looked(found, sha256, rows, items)


def medium(file: str, start_s: float, end_s: float, duration_s: float
           ) -> str | clips.Clip:
  """What is seen of a window: a whole video is its file."""
  if start_s == 0 and end_s >= duration_s:
    return file
  return clips.Clip(file, start_s, end_s)


def _read(found):
  """(kind, text, duration_s) of a file; MediaError."""
  if found.size == 0:
    raise sources.MediaError(found.path, 'the file is empty')
  with sources.blamed(found.path, 'it cannot be read'):
    form = images.form_of(sources.head(found.file))
    named = walk.kind_of_name(found.path)
    if form is None and named == 'text':
      text = entries.read_text(found.file).strip()
      if not text:
        raise sources.MediaError(found.path, 'it holds no text')
      return 'text', text, None
    still = images.is_still(found.file) if form else named == 'image'
    try:
      if still:
        media.size_of(found.file, found.path)
        return 'image', None, None
      return 'video', None, media.probe(found.file).duration_s
    except sources.MediaError as error:
      raise sources.MediaError(found.path, error.reason) from error
