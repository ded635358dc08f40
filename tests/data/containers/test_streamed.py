"""Places of files of the hub; reading one is in tests/data/test_hub.py."""
import io

import numpy as np
import pytest

from jaxret.data import entries
from jaxret.data.containers import cells, streamed
from tests import hub_caches, tables


class FileSystem:
  """The hub's, of one file; asked: how many bytes each time."""

  def __init__(self, data):
    self.data, self.asked = data, []

  def open(self, name, mode, cache_type):
    if self.data is None:
      raise RuntimeError('gone\nfor good')
    assert name == f'datasets/me/pets@{hub_caches.COMMIT}/data/a.parquet'
    outer = self
    class File(io.BytesIO):
      size = len(self.data)

      def read(self, size):
        outer.asked.append(size)
        return super().read(size)
    return File(self.data)


@pytest.fixture
def place(tmp_path, monkeypatch):
  """(place of a table of six pictures, its FileSystem)."""
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  large = np.random.default_rng(0).bytes(200_000)  # beyond what a footer takes
  whole = tables.parquet(
      tmp_path / 'x.parquet', 2, noise=[large] * 6,
      image=tables.images([f'{i}.png' for i in range(6)])).read_bytes()
  path = streamed.place('me/pets', hub_caches.COMMIT) / 'data' / 'a.parquet'
  streamed.make(path, len(whole), 'abc')
  system = FileSystem(whole)
  monkeypatch.setattr(streamed, '_file_system', lambda: system)
  return path, system


def test_a_place_has_a_size_and_no_bytes(place):
  path, system = place
  assert path.stat().st_size == len(system.data)
  assert not any(path.read_bytes()) and path.stat().st_blocks == 0
  assert streamed.is_place(path) and streamed.known_sha256(path) == 'abc'
  before = path.stat().st_mtime_ns
  streamed.make(path, len(system.data))
  assert path.stat().st_mtime_ns == before
  assert not streamed.is_place(path.parent)
  assert streamed.opened('x.parquet') == 'x.parquet'


def test_cells_are_those_of_the_file(place):
  path, system = place
  assert [cells.read(path, row, 'image') for row in (5, 0)] == [
      tables.png(5), tables.png(0)]
  assert 0 < max(system.asked) < len(system.data) and -1 not in system.asked
  with entries.open_parquet(path) as file:
    assert file.metadata.num_rows == 6


def test_what_the_hub_does_not_give_is_said_in_one_line(place):
  path, system = place
  system.data = None
  cells._open.cache_clear()
  for work in (lambda: cells.read(path, 0, 'image'),
               lambda: entries.open_parquet(path)):
    with pytest.raises(ValueError, match='the hub gave nothing') as error:
      work()
    assert '\n' not in str(error.value)
