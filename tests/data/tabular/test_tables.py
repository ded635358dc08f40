"""One table, whatever kind of file it is."""
import json

import pyarrow
import pytest

from jaxret.data import containers
from jaxret.data.tabular import tables as tables_lib
from tests import tables

ROWS = [{'video': 'a.mp4', 'texts': ['x', 'y'], 'n': 1},
        {'video': 'b.mp4', 'texts': [], 'n': 2}]


def test_rows_of_texts_are_the_same_in_every_form(tmp_path):
  forms = {'a.json': json.dumps(ROWS), 'b.json': json.dumps({'data': ROWS}),
           'c.jsonl': '\n'.join(map(json.dumps, ROWS))}
  for name, text in forms.items():
    (tmp_path / name).write_text(text)
    table = tables_lib.opened(tmp_path / name)
    assert (table.names, len(table)) == (['video', 'texts', 'n'], 2)
    assert table.kinds == {'video': 'text', 'texts': 'texts', 'n': 'other'}
    assert table.values('texts') == [['x', 'y'], []]
  for name, separator in (('d.csv', ','), ('e.tsv', '\t')):
    (tmp_path / name).write_text(
        f'video{separator}n\na.mp4{separator}1\nb.mp4{separator}2\n')
    table = tables_lib.opened(tmp_path / name)
    assert table.values('video') == ['a.mp4', 'b.mp4']


@pytest.mark.parametrize('type_', [
    tables.MEDIUM, pyarrow.struct([('bytes', pyarrow.large_binary())]),
    pyarrow.binary()])
@pytest.mark.parametrize('whole', [True, False])
def test_media_are_named_and_not_read(tmp_path, type_, whole):
  """whole: all bytes are there, and are not even decoded."""
  struct = not pyarrow.types.is_binary(type_)
  named = struct and type_.num_fields == 2
  def value(i):
    return {**tables.medium(tables.png(i), f'{i}.png'),
            **({} if named else {'path': None})} if struct else tables.png(i)
  given = [value(i) for i in range(3)] + ([] if whole else [None])
  if struct and not named:
    given = [one and {'bytes': one['bytes']} for one in given]
  path = tables.parquet(tmp_path / 'x.parquet', 2, image=(type_, given))
  found = tables_lib.opened(path).media('image')
  assert found == [tables_lib.Medium(f'{i}.png' if named else None, True)
                   for i in range(3)] + ([] if whole else [None])


def test_a_path_without_bytes_is_said_to_have_none(tmp_path):
  path = tables.parquet(tmp_path / 'x.parquet', image=(tables.MEDIUM, [
      tables.medium(None, 'a.png'), tables.medium(b'x', None),
      tables.medium(None, None)]))
  assert tables_lib.opened(path).media('image') == [
      ('a.png', False), (None, True), None]


@pytest.mark.parametrize('inner', [tables.MEDIUM, pyarrow.binary()])
def test_lists_of_frames_keep_their_lengths(tmp_path, inner):
  def frame(i):
    return (tables.png(i) if inner == pyarrow.binary()
            else tables.medium(tables.png(i), f'{i}.png'))
  path = tables.parquet(tmp_path / 'x.parquet', frames=(
      pyarrow.list_(inner), [[frame(0), frame(1)], None, [], [frame(2)]]))
  table = tables_lib.opened(path)
  assert table.kinds == {'frames': 'media'}
  found = table.media('frames')
  assert [one and len(one) for one in found] == [2, None, [], 1] or (
      [None if one is None else len(one) for one in found] == [2, None, 0, 1])
  for row, entry, grey in ((0, 1, 1), (3, 0, 2)):
    assert containers.read(table.cell(row, 'frames', entry)) == tables.png(grey)


def test_what_datasets_says_of_columns_is_a_hint(tmp_path):
  about = {'info': {'features': {
      'image': {'_type': 'Image'}, 'sound': {'_type': 'Audio'},
      'frames': {'_type': 'List', 'feature': {'_type': 'Image'}},
      'n': {'_type': 'Value', 'dtype': 'int32'}}}}
  table = pyarrow.table({'n': [1]}).replace_schema_metadata(
      {b'huggingface': json.dumps(about).encode()})
  pyarrow.parquet.write_table(table, tmp_path / 'x.parquet')
  assert tables_lib.opened(tmp_path / 'x.parquet').hints == {
      'image': 'image', 'sound': 'audio', 'frames': 'image'}
  for about in (b'no json', b'[]', b'{"info": 3}', b'{"info": {}}'):
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({b'huggingface': about}),
        tmp_path / 'y.parquet')
    assert tables_lib.Table(tmp_path / 'y.parquet').hints == {}
