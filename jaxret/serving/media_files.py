"""The files of an index, whole or a range of their bytes (RFC 9110, 14)."""
import email.utils
import os
import re
import stat
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio.to_thread
from starlette.datastructures import Headers

from jaxret.indexing import hits as hits_lib
from jaxret.indexing import query

BLOCK_BYTES = 256 << 10
# What browsers show; of another ending they offer to save it.
TYPES = {
    '.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg',
    '.jfif': 'image/jpeg', '.gif': 'image/gif', '.webp': 'image/webp',
    '.bmp': 'image/bmp', '.avif': 'image/avif', '.mp4': 'video/mp4',
    '.m4v': 'video/mp4', '.mov': 'video/quicktime', '.mkv': 'video/x-matroska',
    '.webm': 'video/webm', '.ogv': 'video/ogg'}
_RANGE = re.compile(r'bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*', re.IGNORECASE)


class Opened(NamedTuple):
  """A file that is open for reading; who has it closes it."""
  number: int
  state: os.stat_result


class Part(NamedTuple):
  """Bytes from start to before stop, of a file of so many."""
  start: int
  stop: int


def opened(index: query.Index, hit: hits_lib.Hit) -> Opened | None:
  """A hit's file; None where it is gone, or no longer one of the index.

  It is looked at again when it is open: what was opened is what was looked at,
  also where another program puts a link in its place meanwhile.
  """
  file = index.file_of(hit)
  if file is None:
    return None
  try:
    number = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  except OSError:
    return None
  state = os.fstat(number)
  try:
    if (stat.S_ISREG(state.st_mode) and index.file_of(hit) == file
        and os.path.samestat(os.stat(file), state)):
      return Opened(number, state)
  except OSError:
    pass  # it is gone
  os.close(number)
  return None


def part(headers: Mapping[str, str], n_bytes: int, tag: str) -> Part | None:
  """The Part that a GET asks for; None = the whole.

  What is no range of bytes, several ranges, and a range of another version
  (If-Range) are passed by, as the standard lets a server do. Raises IndexError
  for a range behind the end.
  """
  asked = _RANGE.fullmatch(headers.get('range', ''))
  if not asked or headers.get('if-range', tag) != tag:
    return None
  first, last = asked.groups()
  if first:
    if last and int(last) < int(first):
      return None  # no range
    start, stop = int(first), min(int(last or n_bytes) + 1, n_bytes)
  elif last:
    start, stop = max(0, n_bytes - int(last)), n_bytes
  else:
    return None
  if start >= stop:
    raise IndexError(f'{n_bytes:,} bytes are there')
  return Part(start, stop)


class FileAnswer:
  """Sends what is opened to an ASGI server, and closes it."""

  def __init__(self, file: Opened, path: str):
    self.file = file
    state = file.state
    self.tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}-{state.st_ino:x}"'
    name = urllib.parse.quote(path.rpartition('/')[2])
    self.headers = {
        'Content-Type': TYPES.get(os.path.splitext(path)[1].lower(),
                                  'application/octet-stream'),
        'Content-Disposition': f"inline; filename*=UTF-8''{name}",
        'Accept-Ranges': 'bytes', 'ETag': self.tag,
        'Last-Modified': email.utils.formatdate(state.st_mtime, usegmt=True),
        'Cache-Control': 'private, no-cache',
        # Opened by itself it is no page of ours, whatever is in it.
        'Content-Security-Policy': "default-src 'none'; sandbox"}

  async def __call__(self, scope: dict[str, Any], receive, send) -> None:
    try:
      await self._send(scope['method'], Headers(scope=scope), send)
    finally:
      os.close(self.file.number)

  async def _send(self, method, headers, send):
    n_bytes = self.file.state.st_size
    if self.tag in _tags(headers.get('if-none-match', '')):
      return await _start(send, 304, self.headers, True)
    try:
      asked = part(headers, n_bytes, self.tag) if method == 'GET' else None
    except IndexError:
      return await _start(send, 416, self.headers | {
          'Content-Range': f'bytes */{n_bytes}', 'Content-Length': '0'}, True)
    start, stop = asked or (0, n_bytes)
    more = {'Content-Length': str(stop - start)}
    if asked:
      more['Content-Range'] = f'bytes {start}-{stop - 1}/{n_bytes}'
    nothing = method == 'HEAD' or start == stop
    await _start(send, 206 if asked else 200, self.headers | more, nothing)
    while start < stop and not nothing:
      block = await anyio.to_thread.run_sync(
          os.pread, self.file.number, min(BLOCK_BYTES, stop - start), start)
      if not block:  # it was cut since: the connection ends too early, too
        raise OSError('a file became shorter while it was sent')
      start += len(block)
      await send({'type': 'http.response.body', 'body': block,
                  'more_body': start < stop})


def _tags(header):
  """The entity tags of If-None-Match, which may be said to be weak."""
  return {one.strip().removeprefix('W/') for one in header.split(',')}


async def _start(send, status, headers, is_all):
  await send({'type': 'http.response.start', 'status': status, 'headers': [
      (name.lower().encode(), value.encode())
      for name, value in headers.items()]})
  if is_all:
    await send({'type': 'http.response.body', 'body': b''})
