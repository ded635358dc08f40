"""What is on disk: what is no index, damaged, or of another format."""
import json

import numpy as np
import pyarrow as pa
import pytest

from jaxret.indexing import store, walk
from tests import tiny_index

tiny_index.lancedb()
MADE = store.Description({'name': 'm', 'width': 4, 'weights': 'x'}, None, '/',
                         False, 10.0, 10.0, 'float32')


def rows(file, n=1):
  return [{'file': file, 'path': f"it's\n{file}", 'kind': 'video', 'size': 3,
           'mtime_ns': 5, 'sha256': 'a', 'start_s': float(i),
           'end_s': i + 1.0} for i in range(n)]


@pytest.fixture
def table(tmp_path):
  store.describe(tmp_path, MADE)
  made = store.Table(tmp_path, MADE)
  made.add(rows(0, 2), np.eye(4)[:2])
  made.add(rows(1), np.eye(4)[2:3])
  return made


def test_rows_come_back_and_go_by_file(table):
  assert len(table) == 3
  assert table.files()['path'].to_pylist() == ["it's\n0", "it's\n1"]
  table.update(0, caption="one's")
  assert table.files()['caption'].to_pylist() == ["one's", None]
  table.remove([0])
  found = store.read(table.place.path)
  assert found.said['path'].to_pylist() == ["it's\n1"]
  np.testing.assert_array_equal(found.vectors, np.eye(4)[2:3])


def test_a_finished_run_is_read_without_lancedb(table, monkeypatch):
  table.finish()
  assert store.is_current(table.place.path)
  def missing():
    raise AssertionError('the table is opened')
  monkeypatch.setattr(store, 'lancedb', missing)
  found = store.read(table.place.path)
  np.testing.assert_array_equal(found.vectors, np.eye(4)[:3])
  assert found.said['start_s'].to_pylist() == [0, 1, 0]


def test_what_was_added_since_is_read(table):
  table.finish()
  before = store.newest(table.place.path)
  table.add(rows(2), np.eye(4)[3:])
  assert store.newest(table.place.path) != before
  assert not store.is_current(table.place.path)
  assert len(store.read(table.place.path).vectors) == 4


def test_more_rows_than_are_looked_at_one_by_one(table, monkeypatch):
  table.finish()
  monkeypatch.setattr(store, 'MOST_EXACT', 2)
  table.finish()
  assert not (table.place.near / store.SEARCH).exists()
  assert len(store.read(table.place.path).vectors) == 3


def test_versions_are_many_and_the_newest_is_known(table):
  for number in range(12):
    before = store.newest(table.place.path)
    table.add(rows(number + 2), np.eye(4)[:1])
    assert store.newest(table.place.path) < before  # counted down


def test_no_index(tmp_path):
  with pytest.raises(ValueError, match='no index is there.*jaxret index'):
    store.described(tmp_path)
  (tmp_path / store.NAME).write_text('{"format": 7}')
  with pytest.raises(ValueError, match='format 7, want 1'):
    store.described(tmp_path)
  (tmp_path / store.NAME).write_text('{"form')
  with pytest.raises(ValueError, match='is damaged: not JSON'):
    store.described(tmp_path)
  store.describe(tmp_path, MADE)
  assert store.described(tmp_path) == MADE
  with pytest.raises(ValueError, match='holds nothing yet'):
    store.read(tmp_path)


def test_another_table_in_its_place(tmp_path):
  store.describe(tmp_path, MADE)
  store.lancedb().connect(str(tmp_path)).create_table(
      store.TABLE, pa.table({'path': ['a']}))
  with pytest.raises(ValueError, match='has other columns'):
    store.Table(tmp_path, MADE)


def test_what_was_left_out(tmp_path):
  said = [walk.Skipped('a\udce9\n', 'why', 1, 2), walk.Skipped('b', 'no')]
  store.write_skipped(tmp_path, said)
  assert store.read_skipped(tmp_path) == said
  (tmp_path / store.SKIPPED).write_text(json.dumps({'id': 1}) + '\n')
  assert store.read_skipped(tmp_path) == []


def test_without_lancedb_it_is_said_how_to_get_it(monkeypatch):
  import sys
  monkeypatch.setitem(sys.modules, 'lancedb', None)
  with pytest.raises(ValueError, match=r"pip install -e '.\[index\]'"):
    store.lancedb()
