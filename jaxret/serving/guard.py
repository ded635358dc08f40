"""Who may ask, and what a browser may do with the answers.

A page of another site can make the browser of the user ask a server on its own
machine. By another name that leads here (DNS rebinding) it would also read the
answers: so a server on loopback answers to the names of loopback alone.
"""
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

Asgi: TypeAlias = Callable[..., Awaitable[None]]
HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    'X-Content-Type-Options': 'nosniff', 'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin', 'Cache-Control': 'no-store'}
_HOST = re.compile(r'(\[[0-9A-Fa-f:.]+\]|[^:\[\]@/\s]+)(?::[0-9]{1,5})?')


def is_loopback(host: str) -> bool:
  """Whether what is bound to a host is reached from this machine alone."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host.lower() == 'localhost'


def names_of(host: str) -> frozenset[str] | None:
  """The names that a server bound to a host answers to; None = any."""
  if not is_loopback(host):
    return None
  own = f'[{host}]' if ':' in host else host
  return frozenset({'localhost', '127.0.0.1', '[::1]', own.lower()})


class Guard:
  """The app behind a look at each request. names: see names_of."""

  def __init__(self, app: Asgi, names: frozenset[str] | None):
    self.app, self.names = app, names

  async def __call__(self, scope: MutableMapping[str, Any], receive, send):
    if scope['type'] != 'http':
      return await self.app(scope, receive, send)
    async def guarded(message):
      if message['type'] == 'http.response.start':
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
          headers.setdefault(name, value)
      await send(message)
    refused = self._refused(Headers(scope=scope))
    app = self.app if refused is None else JSONResponse(
        {'error': refused[1]}, refused[0], {'Connection': 'close'})
    return await app(scope, receive, guarded)

  def _refused(self, headers):
    """(status, why) of a request that is not answered, None of others."""
    host = headers.get('host', '')
    name = _HOST.fullmatch(host)
    if not name or len(headers.getlist('host')) != 1:
      return 400, 'want one header Host, with the name of this server'
    if self.names is not None and name[1].lower() not in self.names:
      return 421, ('this server answers to the names of its own machine: '
                   'localhost, 127.0.0.1')
    origin = headers.get('origin')
    if origin is not None and origin.lower() not in (
        f'http://{host.lower()}', f'https://{host.lower()}'):
      return 403, 'asked by a page of another site'
    if headers.get('sec-fetch-site') == 'cross-site' and (
        headers.get('sec-fetch-mode') != 'navigate'):
      return 403, 'asked by a page of another site'
    return None
