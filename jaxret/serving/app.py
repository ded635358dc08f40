"""The server: which URL gives what. See docs/search.md, Serving.

Nothing in a URL is ever a path: /media and /thumb take ids of rows, which the
index leads to files, and /static takes the names of the page's own parts.
"""
import os
import pathlib
from typing import Any

import anyio
import jinja2
from starlette import applications, exceptions, routing
from starlette.concurrency import run_in_threadpool
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)

from jaxret.data import sources
from jaxret.indexing import query
from jaxret.serving import (
    guard,
    media_files,
    openapi,
    parameters,
    pictures,
    service,
    uploads,
)
from jaxret.serving.refusals import Refused

_HERE = pathlib.Path(__file__).parent
_STATIC = {'page.css': 'text/css', 'page.js': 'text/javascript',
           'icon.svg': 'image/svg+xml'}


def create(index: query.Index, host: str = '127.0.0.1', rerank: Any = None,
           candidates: int = 50, prompt: str | None = None,
           most_bytes: int = uploads.MOST_BYTES, likelihood: Any = None
           ) -> guard.Guard:
  """The application, for any ASGI server.

  Args:
    index: see jaxret.open_index. Its model is opened.
    host: what the server is bound to; on loopback it answers to no other name.
    rerank, candidates, prompt, likelihood: see service.Service.
    most_bytes: of an upload.
  """
  handlers = _Handlers(
      service.Service(index, rerank, candidates, prompt, likelihood),
      uploads.Uploads(most_bytes))
  app = applications.Starlette(routes=handlers.routes(), exception_handlers={
      ValueError: handlers.refused, exceptions.HTTPException: _http,
      Exception: _failed})
  return guard.Guard(app, guard.names_of(host))  # failures go through it, too


class _Handlers:
  """The requests that are answered."""

  def __init__(self, serves, takes):
    self.serves, self.takes = serves, takes
    self.pictures = pictures.Pictures(serves.index)
    # Who waits for a picture or a second look keeps no thread from a search.
    self.decoders = anyio.CapacityLimiter(os.cpu_count() or 1)
    self.second_looks = anyio.CapacityLimiter(1)

  def routes(self):
    return [routing.Route(path, handler, methods=methods) for
            path, handler, methods in (
                ('/', self.page, ['GET']),
                ('/static/{name}', self.static, ['GET']),
                ('/openapi.json', self.openapi, ['GET']),
                ('/api/index', self.about, ['GET']),
                ('/api/search', self.search, ['GET']),
                ('/api/search', self.search_by_upload, ['POST']),
                ('/media/{id}', self.media, ['GET']),
                ('/thumb/{id}', self.thumb, ['GET']))]

  async def page(self, request):
    about = await run_in_threadpool(self.serves.about)
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
        ).from_string((_HERE / 'page.html.jinja').read_text())
    return HTMLResponse(template.render(
        about=about, most_bytes=self.takes.most_bytes,
        most_hits=parameters.MOST_HITS,
        name=sources.printable(self.serves.index.name)))

  async def static(self, request):
    name = request.path_params['name']
    if name not in _STATIC:
      raise Refused(404, 'there is no such file')
    return Response((_HERE / name).read_bytes(), media_type=_STATIC[name])

  async def openapi(self, request):
    return JSONResponse(openapi.description(self.takes.most_bytes))

  async def about(self, request):
    return JSONResponse(await run_in_threadpool(self.serves.about))

  async def search(self, request):
    asked = parameters.read(request.query_params.multi_items())
    return await self._searched(asked)

  async def search_by_upload(self, request):
    asked = parameters.read(request.query_params.multi_items())
    async with self.takes.received(request) as path:
      return await self._searched(asked, path)

  async def _searched(self, asked, *more):
    return JSONResponse(await anyio.to_thread.run_sync(
        self.serves.search, asked, *more,
        limiter=self.second_looks if asked.look else None))

  async def media(self, request):
    hit = await run_in_threadpool(
        self.serves.hit, request.path_params['id'])
    if hit.kind == 'text':
      return PlainTextResponse(hit.text or '')
    file = await run_in_threadpool(
        media_files.opened, self.serves.index, hit)
    if file is None:
      raise Refused(404, 'the file is gone, or no longer one of the index')
    return media_files.FileAnswer(file, hit.path)

  async def thumb(self, request):
    size = request.query_params.get('size', '320')
    if size not in map(str, pictures.SIZES):
      raise Refused(400, 'size: want 320 or 1280')
    hit = await run_in_threadpool(
        self.serves.hit, request.path_params['id'])
    tag = f'"{hit.file:x}-{hit.mtime_ns:x}-{size}"'
    jpeg = await anyio.to_thread.run_sync(
        self.pictures.of, hit, int(size), limiter=self.decoders)
    if jpeg is None:
      raise Refused(404, 'there is no picture: a text, or its file is gone')
    headers = {'ETag': tag, 'Cache-Control': 'private, no-cache'}
    if request.headers.get('if-none-match') == tag:
      return Response(status_code=304, headers=headers)
    return Response(jpeg, media_type='image/jpeg', headers=headers)

  async def refused(self, request, error):
    """One line; where the index lies is nobody's business."""
    said = ' '.join(str(error).split()).replace(
        str(self.serves.index.path), 'the index')
    status = getattr(error, 'status', 400)
    # Of an upload that is refused the rest is not read.
    headers = {'Connection': 'close'} if request.method == 'POST' else None
    return JSONResponse({'error': said}, status, headers)


async def _http(request, error):
  return JSONResponse({'error': error.detail}, error.status_code,
                      error.headers)


async def _failed(request, error):
  """The server itself says the error where it was started."""
  return JSONResponse({'error': 'the server failed; it says why where it was '
                       'started'}, 500)
