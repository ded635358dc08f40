"""Crafted requests over a real connection get nothing outside the index."""
import errno
import http.client
import itertools
import socket

import pytest

from tests import tiny_serving

app = tiny_serving.part('app')

UP = ('../', '..%2f', '%2e%2e/', '%2e%2e%2f', '..\\', '..%5c', '..%252f',
      '....//', '%c0%ae%c0%ae/', './../')
WANTED = 'secret.txt', 'index/index.jaxret', 'etc/passwd'
STARTS = '/media/', '/thumb/', '/static/', '/'
# What a socket says whose other end has closed, whichever call finds it.
CLOSED = errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  """(port, folder) of a server that runs."""
  path = tmp_path_factory.mktemp('crafted')
  made = app.create(tiny_serving.made(path), most_bytes=50_000)
  with tiny_serving.server(made) as port:
    yield port, path


def raw(port, request, is_all=False):
  """All that comes back for the bytes of a request; is_all: says that."""
  got = b''
  with socket.create_connection(('127.0.0.1', port), timeout=20) as connection:
    try:
      connection.sendall(request)
      if is_all:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:  # it refused before it had read all
      if error.errno not in CLOSED:
        raise
    try:
      while block := connection.recv(65536):
        got += block
    except OSError as error:
      if error.errno not in CLOSED:
        raise
  return got


def get(port, target, more=b''):
  return raw(port, b'GET ' + target + b' HTTP/1.1\r\nHost: localhost\r\n'
             b'Connection: close\r\n' + more + b'\r\n')


def crafted(path):
  """Over 100 targets that would lead out, as far as a path is one."""
  for start, up, wanted in itertools.product(STARTS, UP, WANTED):
    yield f'{start}{up * 8}{wanted}'.encode()
  for name in ('secret.txt', 'media/../secret.txt', 'media/a.png'):
    whole = str(path / name)
    for start in ('/media/', '/media//', '/static/', '/media/0-', '/thumb/',
                  '/media/file://', '/api/search?like=', '/media/%00'):
      yield f'{start}{whole}'.encode()
      yield f'{start}{whole.replace("/", "%2f")}'.encode()
  yield from (b'/media', b'/media/', b'/static', b'/static/', b'/thumb/',
              b'/media/a.png', b'/media/trip', b'/media/-1-000000000000',
              b'/media/' + b'f' * 15 + b'-000000000000', b'/media/0-%0a',
              b'/media/' + b'9' * 20000, b'/static/page.py', b'/static/app.py',
              b'/static/page.html.jinja', b'/media/\xff\xfe', b'*', b'//',
              b'http://evil.example/media/a.png')


def test_crafted_urls(server):
  port, path = server
  secret = (path / 'media' / 'a.png').read_bytes()[-40:]
  n_tried = 0
  for target in crafted(path):
    got = get(port, target)
    n_tried += 1
    status = got.split(b' ')[1] if got else b'400'
    assert status[:1] == b'4' or target == b'//', (target, got[:200])
    for never in (b'SECRET', b'root:', b'"format"', secret, b'def create',
                  b'{{', bytes(path.parent.parent)):
      assert never not in got, target
  assert n_tried > 100
  assert get(port, b'/').startswith(b'HTTP/1.1 200')


def test_requests_that_are_none(server):
  port, _ = server
  for request in (b'\0' * 100, b'GET\r\n\r\n', b'GET / HTTP/1.1\r\n\r\n',
                  b'GET / JTTP/1.1\r\nHost: localhost\r\n\r\n',
                  b'GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n',
                  b'POST /api/search HTTP/1.1\r\nHost: localhost\r\n'
                  b'Content-Length: -5\r\n\r\n',
                  b'GET / HTTP/1.1\r\n' + b'A: ' + b'x' * 200000 + b'\r\n\r\n'):
    assert not raw(port, request, True).startswith(b'HTTP/1.1 2'), request[:60]
  assert get(port, b'/').startswith(b'HTTP/1.1 200')


def test_an_upload_of_gigabytes_is_refused_before_it_is_read(server):
  port, _ = server
  connection = http.client.HTTPConnection('localhost', port, timeout=20)
  connection.putrequest('POST', '/api/search')
  connection.putheader('Content-Length', str(2 << 30))
  connection.endheaders()
  answer = connection.getresponse()  # though nothing was sent
  assert answer.status == 413 and b'larger than 50,000' in answer.read()
  connection.close()
  sent = 0
  with socket.create_connection(('127.0.0.1', port), timeout=20) as connection:
    connection.sendall(b'POST /api/search HTTP/1.1\r\nHost: localhost\r\n'
                       b'Transfer-Encoding: chunked\r\n\r\n')
    block = b'10000\r\n' + b'x' * 65536 + b'\r\n'
    try:
      while sent < 2 << 30:
        connection.sendall(block)
        sent += 65536
    except OSError:
      pass  # it was closed
  assert sent < 64 << 20
  assert get(port, b'/api/index').startswith(b'HTTP/1.1 200')
