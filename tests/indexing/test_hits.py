"""Rows as Hits; filters as arrays and as SQL keep the same."""
import pyarrow as pa
import pytest

from jaxret.indexing import hits, store
from tests import tiny_index

PATHS = ("it's/a.png", "it's/b/c.mp4", 'its/d.txt', 'a%_/e.mp4', 'f.png')


def said():
  n = len(PATHS)
  return pa.table({
      'file': pa.array(range(n)), 'path': PATHS,
      'kind': ['image', 'video', 'text', 'video', 'image'],
      'start_s': pa.array([None, 1.0, None, 0.0, None], pa.float64()),
      'end_s': pa.array([None, 2.0, None, 9.0, None], pa.float64()),
      'duration_s': pa.array([None, 20.0, None, 9.0, None], pa.float64()),
      'size': pa.array(range(n)),
      'mtime_ns': pa.array([i * 10 ** 9 for i in range(n)]),
      'sha256': ['x'] * n, 'caption': [None, 'c', None, None, None],
      'text': [None, None, 'a dog', None, None]})


FILTERS = [
    ({'kind': 'video'}, [1, 3]), ({'folder': "it's"}, [0, 1]),
    ({'folder': "it's/b/"}, [1]), ({'folder': 'a%_'}, [3]),
    ({'min_duration_s': 9}, [1, 3]), ({'max_duration_s': 9.5}, [3]),
    ({'after': 2.0}, [2, 3, 4]), ({'before': 2.0}, [0, 1]),
    ({'kind': 'image', 'after': 1}, [4]), ({}, [0, 1, 2, 3, 4])]


@pytest.mark.parametrize('chosen, want', FILTERS)
def test_filters(chosen, want):
  kept = hits.keep(said(), hits.Filter(**chosen))
  assert (kept is None) == (not chosen)
  if chosen:
    assert kept.nonzero()[0].tolist() == want


def test_conditions_keep_the_same(tmp_path):
  table = tiny_index.lancedb().connect(tmp_path).create_table('t', said())
  for chosen, want in FILTERS:
    condition = hits.condition(hits.Filter(**chosen))
    found = table.search().limit(10)
    found = (found if condition is None else found.where(condition)).to_arrow()
    assert sorted(found['file'].to_pylist()) == want


def test_hits_of_rows():
  found = hits.of_rows(said(), [1, 2, -1], [0.5, 0.25, -1])
  assert [(hit.path, hit.score, hit.row) for hit in found] == [
      ("it's/b/c.mp4", 0.5, 1), ('its/d.txt', 0.25, 2)]
  assert (found[0].start_s, found[0].caption) == (1, 'c')
  assert found[1].text == 'a dog'
  assert found[0].to_json() == {
      'path': "it's/b/c.mp4", 'kind': 'video', 'score': 0.5, 'start_s': 1.0,
      'end_s': 2.0, 'duration_s': 20.0, 'caption': 'c', 'size': 1,
      'mtime_ns': 10 ** 9}


def test_nothing_outside_of_the_root_is_a_hits_file(tmp_path):
  root = tmp_path / 'root'
  for path in (tmp_path / 'secret.png', root / 'a.png'):
    tiny_index.picture(path, 0)
  (root / 'link.png').symlink_to(tmp_path / 'secret.png')
  def file(path, follow_links=False):
    return hits.file_of(hits.Hit(path, 'image', 1.0), str(root), follow_links)
  assert file('a.png') == str(root / 'a.png')
  secret = str(tmp_path / 'secret.png')
  for path in ('../secret.png', secret, 'link.png', '.', '', 'none.png',
               'x/../../secret.png'):
    assert file(path) is None
  assert file(secret, follow_links=True) == secret


def test_versions_of_columns():
  assert {name for name, _ in store.COLUMNS} >= {
      name for name in said().column_names}
