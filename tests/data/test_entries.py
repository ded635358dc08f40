"""Published files as entries: counted from 1, checked, and media found."""
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from jaxret.data import entries


def test_lines_are_counted_with_the_empty_ones(tmp_path):
  path, made = tmp_path / 'x.jsonl', {}
  with path.open('w', encoding='utf-8') as file:
    for line in range(1, 20):
      if line % 3:
        made[line] = {'n': line, 'é': [line] * (line % 4)}
      file.write(json.dumps(made[line], ensure_ascii=False) + '\n'
                 if line in made else ' \n')
  assert dict(entries.json_lines(path)) == made
  assert entries.read_json_lines(path) == list(made.values())
  for line, message in (('{', 'line 21 is not valid JSON'),
                        ('3', 'line 21: got a number, wanted an object')):
    path.write_text('{}\n' * 5 + '\n' * 15 + line)
    with pytest.raises(ValueError, match=message):
      list(entries.json_lines(path))


@pytest.mark.parametrize('value, kinds, message', [
    ('a', str, None), (['a'], list, None), (0, int, None), (0.5, (int, float),
                                                           None),
    (' ', str, "'k' empty, wanted a string"),
    ([], list, "'k' empty, wanted a list"),
    (None, str, "'k' null, wanted a string"),
    (3, (str, dict), "'k' a number, wanted a string or an object"),
    ({}, list, "'k' an object, wanted a list")])
def test_fields_are_what_was_wanted_or_named(value, kinds, message):
  entry = {'other': 1, 'k': value}
  if message is None:
    assert entries.field('f', 6, entry, 'k', kinds) is value
    return
  with pytest.raises(ValueError) as error:
    entries.field('f', 6, entry, 'k', kinds)
  assert str(error.value) == f'f, entry 7: got {message}'
  with pytest.raises(ValueError, match=r"entry 7: got fields other, k, wanted "
                     r"'lacking', a string"):
    entries.field('f', 6, entry, 'lacking')


def test_tables_have_their_columns_and_csv_has_rows(tmp_path):
  rows = [{'a': f'{i}', 'b': f'x, "{i}"\ny'} for i in range(3)]
  text = 'a,b\n' + ''.join(
      '{a},"{b}"\n'.format(a=row['a'], b=row['b'].replace('"', '""'))
      for row in rows)
  path = tmp_path / 'x.csv'
  path.write_text(text)
  assert entries.read_csv(path, ('b',)) == rows
  table = tmp_path / 'x.parquet'
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
  assert entries.read_parquet(table, ('b',)) == [
      {'b': row['b']} for row in rows]
  for read, file in ((entries.read_csv, path), (entries.read_parquet, table)):
    with pytest.raises(ValueError, match='the columns a, b; wanted a, c'):
      read(file, ('a', 'c'))
  path.write_text('a,b\n')
  with pytest.raises(ValueError, match='has a header and no rows'):
    entries.read_csv(path, ('a',))


def test_a_medium_is_in_the_first_folder_that_has_it(tmp_path):
  folders = 'one', 'two', ''
  for places in ((), (0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
    root = tmp_path / '-'.join(map(str, places)).join('<>')
    for place in places:
      (root / folders[place] / 'sub').mkdir(parents=True)
      (root / folders[place] / 'sub' / 'x.jpg').write_bytes(b'')
    (root / 'one' / 'sub').mkdir(parents=True, exist_ok=True)
    first = folders[min(places, default=0)]
    assert entries.find(root, 'sub/x.jpg', folders) == str(
        root / first / 'sub/x.jpg')
  # A folder of that name is no medium.
  (tmp_path / 'a' / 'one' / 'x.jpg').mkdir(parents=True)
  (tmp_path / 'a' / 'two').mkdir()
  (tmp_path / 'a' / 'two' / 'x.jpg').write_bytes(b'')
  assert entries.find(tmp_path / 'a', 'x.jpg', folders) == str(
      tmp_path / 'a/two/x.jpg')


@pytest.mark.parametrize('value, kinds, message', [
    (True, int, "got 'x' a boolean, wanted a number"),
    (b'bytes', str, "got 'x' a bytes, wanted a string"),
    (1.5, (int, str), "got 'x' a number, wanted a number or a string")])
def test_values_that_only_python_takes_for_others_are_named(
    value, kinds, message):
  with pytest.raises(ValueError) as caught:
    entries.field('file', 0, {'x': value}, 'x', kinds)
  assert str(caught.value) == f'file, entry 1: {message}'
  assert entries.field('file', 0, {'x': True}, 'x', (int, bool)) is True


@pytest.mark.parametrize('content, got', [
    ([], 'an empty list'), ({}, 'an object'), (None, 'null'),
    ([{}, {}, 'x'], 'a string')])
def test_what_is_no_list_of_objects_is_said(content, got):
  with pytest.raises(ValueError, match=f'got {re.escape(got)}, wanted') as (
      error):
    entries.listed('f.json', content)
  assert ('entry 3' in str(error.value)) == (got == 'a string')
