"""A search is made once; what is damaged of it is made again and said."""
import numpy as np
import pytest

from jaxret.data.types import Item
from jaxret.scoring.embeddings import searches, similarity
from jaxret.scoring.embeddings.store import Embeddings

VECTORS = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)


@pytest.fixture
def rows(tmp_path):
  def encode(items, prompt):
    return VECTORS[[int(item.text) for item in items]]
  return Embeddings(tmp_path / 'store', {}).rows(
      [Item(str(i), text=str(i)) for i in range(9)], None, encode)


@pytest.fixture
def calls(monkeypatch):
  made, search = [], similarity.search
  def counted(*args):
    made.append(args)
    return search(*args)
  monkeypatch.setattr(similarity, 'search', counted)
  return made


def find(tmp_path, rows, k=3):
  return searches.search(tmp_path / 'found', rows, rows.index[:5], k)


def test_a_search_is_made_once(tmp_path, rows, calls):
  scores, places = find(tmp_path, rows)
  want = VECTORS[:5] @ VECTORS.T
  np.testing.assert_array_equal(places, np.argsort(-want, 1)[:, :3])
  np.testing.assert_allclose(
      scores, np.take_along_axis(want, places, 1), rtol=1e-6)
  again = find(tmp_path, rows)
  np.testing.assert_array_equal(again[1], places)
  assert len(calls) == 1
  find(tmp_path, rows, 2)
  assert len(calls) == 2


def test_what_is_damaged_is_searched_again_and_said(
    tmp_path, rows, calls, caplog):
  """Every cut, and a bit anywhere: never other places, never a traceback."""
  want = find(tmp_path, rows)
  path, = (tmp_path / 'found').rglob('*.npz')
  whole = path.read_bytes()
  damaged = [whole[:size] for size in range(0, len(whole), 40)]
  for place in range(0, len(whole), 9):
    data = bytearray(whole)
    data[place] ^= 1 << place % 8
    damaged.append(bytes(data))
  for data in damaged:
    path.write_bytes(data)
    caplog.clear()
    before = len(calls)
    scores, places = find(tmp_path, rows)
    np.testing.assert_array_equal(places, want[1])
    np.testing.assert_array_equal(scores, want[0])
    assert (len(calls) > before) == (str(path) in caplog.text)
  assert len(calls) > len(damaged) / 2
