"""An app on a small index, and a client for it."""
import contextlib
import importlib
import socket
import threading
import time

import pytest

import jaxret
from tests import tiny_index

REASON = "no Starlette or httpx is installed: pip install -e '.[serve,test]'"


def part(name):
  """A module of jaxret.serving; where its libraries are not, tests skip."""
  tiny_index.lancedb()
  pytest.importorskip('starlette', reason=REASON)
  pytest.importorskip('httpx', reason=REASON)
  return importlib.import_module(f'jaxret.serving.{name}')


def made(path):
  """A folder, and its index below `path`, opened."""
  tiny_index.folder(path / 'media')
  (path / 'secret.txt').write_text('SECRET')
  return indexed(path)


def indexed(path):
  model = tiny_index.model()
  jaxret.index(path / 'media', model, path / 'index', window=2,
               show_progress=False)
  return jaxret.open_index(path / 'index', model)


@contextlib.contextmanager
def server(app):
  """The port of a server that runs."""
  uvicorn = pytest.importorskip('uvicorn', reason=REASON)
  with socket.create_server(('127.0.0.1', 0)) as listening:
    runs = uvicorn.Server(uvicorn.Config(
        app, http='h11', ws='none', lifespan='off', log_level='critical'))
    thread = threading.Thread(target=runs.run, kwargs={'sockets': [listening]})
    thread.start()
    while not runs.started:
      time.sleep(0.01)
    try:
      yield listening.getsockname()[1]
    finally:
      runs.should_exit = True
      thread.join()


def client(app, **options):
  from starlette import testclient
  return testclient.TestClient(app, 'http://127.0.0.1:8000', **options)
