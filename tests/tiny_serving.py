"""An app on a small index, and a client for it."""
import importlib

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


def client(app, **options):
  from starlette import testclient
  return testclient.TestClient(app, 'http://127.0.0.1:8000', **options)
