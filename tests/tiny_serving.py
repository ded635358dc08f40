"""An app on a small index, and a client for it."""
import pytest

import jaxret
from tests import tiny_index

REASON = "Starlette is not installed: pip install 'jaxret[serve]'"
tiny_index.lancedb()
pytest.importorskip('starlette', reason=REASON)
testclient = pytest.importorskip(
    'starlette.testclient', reason='httpx is not installed', exc_type=(
        ImportError, RuntimeError))


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
  return testclient.TestClient(app, 'http://127.0.0.1:8000', **options)
