"""A page of hits that opens anywhere: pictures inside, nothing from outside."""
import base64
import io
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxret.data import media, sources
from jaxret.indexing import hits as hits_lib

THUMB_PX = 320  # longer side


def render(query: Mapping[str, Any], hits: Sequence[hits_lib.Hit],
           file_of: Callable[[hits_lib.Hit], str | None], title: str) -> str:
  """The page, HTML.

  query: {'text', 'image', 'video'} as far as given; file_of: the file of a
  hit, None where it is gone; title: what was searched.
  """
  import jinja2
  template = jinja2.Environment(
      autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
      ).from_string((pathlib.Path(__file__).parent / 'page.html.jinja')
                    .read_text())
  return template.render(
      query=query, title=sources.printable(title), moment=moment, hits=[
          (hit, thumbnail(hit, file_of(hit))) for hit in hits],
      asked=[thumbnail_of(kind, query[kind]) for kind in ('image', 'video')
             if kind in query])


def moment(hit: hits_lib.Hit) -> str:
  """'1:02 to 1:12' of what lies in a video, '' of others."""
  if hit.start_s is None or hit.end_s is None:
    return ''
  return ' to '.join(f'{t // 60}:{t % 60:02d}' for t in (
      math.floor(hit.start_s), math.ceil(hit.end_s)))


def thumbnail(hit: hits_lib.Hit, file: str | None) -> str | None:
  """A JPEG in base64 of what is seen; None of texts and what is gone."""
  if file is None or hit.kind == 'text':
    return None
  item = hits_lib.item_of(hit, file)
  return thumbnail_of(hit.kind, item.video if hit.kind == 'video'
                      else item.image)


def thumbnail_of(kind: str, source: Any) -> str | None:
  """The same of a medium."""
  jpeg = jpeg_of(kind, source, THUMB_PX)
  return None if jpeg is None else base64.b64encode(jpeg).decode('ascii')


def jpeg_of(kind: str, source: Any, px: int) -> bytes | None:
  """A JPEG of a still, or of the frame in the middle of a video.

  px: of its longer side, at most. None of what cannot be read: it was changed
  since it was indexed.
  """
  try:
    if kind == 'image':
      pixels = media.read_still(source, 'its image')
    else:
      pixels = media.sample_frames(source, lambda n, fps: [n // 2])[0]
  except ValueError:
    return None
  from PIL import Image
  image = Image.fromarray(pixels)
  image.thumbnail((px, px))
  buffer = io.BytesIO()
  image.save(buffer, 'JPEG', quality=80)
  return buffer.getvalue()
