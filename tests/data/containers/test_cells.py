"""Cells of parquet and Arrow, read one at a time."""
import concurrent.futures

import pyarrow
import pytest

from jaxret.data import containers, images, sources
from jaxret.data.containers import cells
from tests import tables

NAMES = [f'{i}.png' for i in range(7)]


def arrow(path, table, form):
  new = pyarrow.ipc.new_stream if form == 'stream' else pyarrow.ipc.new_file
  with new(path, table.schema) as out:
    out.write_table(table, max_chunksize=3)
  return path


@pytest.fixture(params=['parquet', 'file', 'stream'])
def table(request, tmp_path):
  """Seven greys: as structs, as bytes, as lists; three rows a group."""
  path = tables.parquet(
      tmp_path / 'x.parquet', 3, image=tables.images(NAMES),
      raw=[tables.png(i) for i in range(7)],
      frames=[[tables.png(i), tables.png(i + 10)] for i in range(7)])
  if request.param == 'parquet':
    return path
  return arrow(tmp_path / 'x.arrow', pyarrow.parquet.read_table(path),
               request.param)


def test_each_cell_is_its_own(table):
  for row in (6, 0, 3):
    for path in (containers.cell(table, row, 'image'), f'{table}/{row}/raw',
                 containers.cell(table, row, 'frames', 0)):
      assert containers.read(path) == tables.png(row)
      assert images.read(path)[0, 0, 0] == row and sources.is_file(path)
    assert images.read(f'{table}/{row}.1/frames')[0, 0, 0] == row + 10


@pytest.mark.parametrize('cell, said', [
    ('7/image', 'no row 7 of 7'), ('0/picture', "no column 'picture'"),
    ('0.2/frames', 'no entry 2'), ('0.0/image', 'no entry 0'),
    ('0/frames', 'a cell of list'), ('image', "no cell 'image'"),
    ('-1/image', 'no cell')])
def test_what_is_not_there_is_said_with_the_place(table, cell, said):
  with pytest.raises(sources.MediaError, match=said) as caught:
    images.read(f'{table}/{cell}')
  assert str(caught.value).startswith(f'{table}/{cell}: ')


def test_an_empty_cell_and_one_that_is_a_path_are_no_bytes(tmp_path):
  path = tables.parquet(tmp_path / 'x.parquet', image=(tables.MEDIUM, [
      None, tables.medium(None, '/etc/passwd')]), name=['a', 'b'])
  for cell, said in (('0/image', 'an empty cell'), ('1/image', 'an empty cell'),
                     ('0/name', 'a cell of str')):
    with pytest.raises(sources.MediaError, match=said):
      images.read(f'{path}/{cell}')


def test_large_groups_are_unpacked_once(tmp_path, monkeypatch):
  path = tables.parquet(tmp_path / 'x.parquet', 3, image=tables.images(NAMES))
  monkeypatch.setattr(cells, 'LARGEST_GROUP', 1)
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  for row in range(7):
    assert containers.read(f'{path}/{row}/image') == tables.png(row)
  made = set((tmp_path / 'cache' / 'tables').iterdir())
  assert len(made) == 3  # row groups
  stamps = {file: file.stat().st_mtime_ns for file in made}
  cells._unpacked.cache_clear()
  assert containers.read(f'{path}/5/image') == tables.png(5)
  assert {file: file.stat().st_mtime_ns for file in (
      tmp_path / 'cache' / 'tables').iterdir()} == stamps


def test_threads_read_what_they_ask(table):
  asked = [row % 7 for row in range(70)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = pool.map(lambda row: containers.read(f'{table}/{row}/image'), asked)
  assert list(found) == [tables.png(row) for row in asked]


def test_a_damaged_table_is_said_in_one_line(table):
  whole = table.read_bytes()
  for spoilt in (whole[:-20], whole[:40], b'', b'x' * 200):
    table.write_bytes(spoilt)
    try:  # a stream may end early
      assert containers.read(f'{table}/0/image') == tables.png(0)
    except ValueError as error:
      assert '\n' not in str(error) and str(table) in str(error)
    except FileNotFoundError as error:
      assert 'no column' in str(error) or 'no row' in str(error)
