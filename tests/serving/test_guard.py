"""Which requests are answered: by name, and by who sent the browser."""
import pytest

from tests import tiny_serving

guard = tiny_serving.part('guard')


async def app(scope, receive, send):
  from starlette.responses import PlainTextResponse
  await PlainTextResponse('here')(scope, receive, send)


def status(names, **headers):
  client = tiny_serving.client(guard.Guard(app, names))
  return client.get('/', headers={
      name.replace('_', '-'): value for name, value in headers.items()}
                    ).status_code


def test_what_is_loopback():
  for host in ('127.0.0.1', '127.3.2.1', '::1', 'localhost', 'LOCALHOST'):
    assert guard.is_loopback(host) and guard.names_of(host)
  for host in ('0.0.0.0', '::', '192.168.0.7', 'x.org', 'localhost.x.org'):
    assert guard.names_of(host) is None


@pytest.mark.parametrize('host', [
    'localhost', 'LocalHost:8000', '127.0.0.1:1', '[::1]:8000', '[::1]'])
def test_own_names_are_answered(host):
  assert status(guard.names_of('127.0.0.1'), host=host) == 200


@pytest.mark.parametrize('host', [
    'evil.example', 'evil.example:8000', 'localhost.evil.example',
    '127.0.0.1.evil.example', 'evil@localhost', 'localhost:8000:9', '',
    '[::1', '192.168.0.1', 'localhost/x', 'localhost evil'])
def test_others_are_not_on_loopback(host):
  assert status(guard.names_of('127.0.0.1'), host=host) in (400, 421)


def test_on_a_network_any_name_is_answered():
  names = guard.names_of('0.0.0.0')
  assert status(names, host='machine.example:8000') == 200
  assert status(names, host='a b') == 400


def test_pages_of_other_sites_get_nothing():
  names, host = guard.names_of('127.0.0.1'), 'localhost:8000'
  for origin in ('http://evil.example', 'null', 'http://localhost:9000',
                 'http://localhost:8000.evil.example'):
    assert status(names, host=host, origin=origin) == 403
  assert status(names, host=host, origin='http://localhost:8000') == 200
  assert status(names, host=host, sec_fetch_site='cross-site',
                sec_fetch_mode='no-cors') == 403
  assert status(names, host=host, sec_fetch_site='cross-site',
                sec_fetch_mode='navigate') == 200
  assert status(names, host=host, sec_fetch_site='same-origin') == 200


def test_headers_are_on_answers_and_refusals():
  client = tiny_serving.client(guard.Guard(app, guard.names_of('::1')))
  for answer in (client.get('/'), client.get('/', headers={'host': 'evil'})):
    for name, value in guard.HEADERS.items():
      assert answer.headers[name] == value
  assert "'unsafe" not in guard.HEADERS['Content-Security-Policy']
