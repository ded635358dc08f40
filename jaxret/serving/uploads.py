"""Images and videos that are sent to search by, in files that do not stay."""
import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from jaxret.data import images, media, sources, types
from jaxret.serving.refusals import Refused

MOST_BYTES = 64 << 20
AT_ONCE = 4  # uploads, so that at most four times the limit lies on the disk
SECONDS = 120  # to send one


class Uploads:
  """Takes uploads of at most `most_bytes`, a few at once."""

  def __init__(self, most_bytes: int = MOST_BYTES, at_once: int = AT_ONCE,
               seconds: float = SECONDS):
    self.most_bytes, self.seconds = most_bytes, seconds
    self._free = asyncio.Semaphore(at_once)

  @contextlib.asynccontextmanager
  async def received(self, request: Request) -> AsyncIterator[pathlib.Path]:
    """The body of a request as a file, until it has been looked at.

    Refused where it is empty or too large: by what it says of its length,
    before any of it is read, else as soon as it is.
    """
    stated = request.headers.get('content-length')
    if stated is not None and stated.isdecimal() and (
        int(stated[:20]) > self.most_bytes):
      raise self._too_large()
    async with self._free:
      with tempfile.TemporaryDirectory(prefix='jaxret_upload_') as folder:
        path = pathlib.Path(folder) / 'upload'
        try:
          async with asyncio.timeout(self.seconds):
            n_bytes = await self._write(request, path)
        except TimeoutError:
          raise Refused(408, f'the upload took longer than {self.seconds:g} s'
                        ) from None
        except ClientDisconnect:
          raise Refused(400, 'the upload ended too early') from None
        if not n_bytes:
          raise Refused(400, 'the upload is empty; send an image or a video as '
                        'the body')
        yield path

  async def _write(self, request, path):
    n_bytes = 0
    with path.open('wb') as file:
      async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes > self.most_bytes:
          raise self._too_large()
        file.write(chunk)
    return n_bytes

  def _too_large(self):
    return Refused(413, f'the upload is larger than {self.most_bytes:,} bytes; '
                   'send a smaller one, or serve with --max_upload_mb')


def item(path: pathlib.Path, text: str | None = None) -> types.Item:
  """What a model is shown of an upload: by its content an image or a video.

  text: that goes with it. Refused where it is neither, or larger than media
  may be.
  """
  file = str(path)
  try:
    with sources.blamed('the upload', 'it cannot be read'):
      is_still = images.form_of(sources.head(file)) and images.is_still(file)
      if is_still:
        media.size_of(file, 'the upload')
      else:
        media.probe(file)
  except ValueError as error:
    raise Refused(400, 'the upload is no image or video that can be read ('
                  f'{getattr(error, "reason", error)})'.replace(
                      file, 'the upload')) from error
  order = ('image' if is_still else 'video',)
  return types.Item('the upload', text, file if is_still else None,
                    None if is_still else file,
                    order=(order if text is None else ('text', *order)))
