"""Published files as entries: counted from 1, checked, and media found."""
import gzip
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


ODD = 'one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven\reight'


@pytest.mark.parametrize('ends', ('\n', '\r\n'))
@pytest.mark.parametrize('mark', ('', '\ufeff'))
@pytest.mark.parametrize('last', (True, False))
def test_only_newlines_end_a_line(tmp_path, ends, mark, last):
  path, wanted = tmp_path / 'x.txt', [ODD, '', f' {ODD} ', '\ufeffnot first']
  data = (mark + ends.join(wanted) + ends * last).encode()
  path.write_bytes(data)
  assert list(entries.lines(path)) == list(enumerate(wanted, 1))
  assert entries.read_text(path) == data.decode().removeprefix(mark)
  packed = tmp_path / 'x.gz'
  packed.write_bytes(gzip.compress(data))
  assert list(entries.lines(packed)) == list(enumerate(wanted, 1))
  rows = [{'text': text} for text in (ODD.replace('\r', ''), 'plain')]
  path.write_bytes((mark + ends.join(
      json.dumps(row, ensure_ascii=False) for row in rows)).encode())
  assert [entry for _, entry in entries.json_lines(path)] == rows
  path.write_bytes((mark + ends.join(('a,text', f'1,"{ODD}"', '2,"b""c"'))
                    + ends).encode())
  assert entries.read_csv(path, ('text',)) == [
      {'a': '1', 'text': ODD}, {'a': '2', 'text': 'b"c'}]
  path.write_bytes((mark + json.dumps(rows, ensure_ascii=False)).encode())
  assert entries.read_json(path) == rows


@pytest.mark.parametrize('data, message', [
    (b'{"a": 1}\n{"a": ', 'line 2 is not valid JSON'),
    (b'{"a": 1}\n{"a": "\xff"}', r'line 2: not a text in UTF-8'),
    ('{"a": 1}'.encode('utf-16'), 'line 1: not a text in UTF-8'),
    (b'[' * 100_000, 'line 1 is not valid JSON: maximum recursion'),
    (b'{"a": ' + b'1' * 5000 + b'}', 'line 1 is not valid JSON'),
    (b'{"a": 1, "b": 2, "a": 3}', "line 1 is not valid JSON: the key 'a' is"),
    (b'[1]', 'line 1: got a list, wanted an object'),
    (b'\n\nNaN', 'line 3: got nan, wanted an object')])
def test_every_error_in_json_names_file_and_line(tmp_path, data, message):
  path = tmp_path / 'x.jsonl'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message) as caught:
    list(entries.json_lines(path))
  assert str(caught.value).startswith(str(path))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('data, message', [
    (b'[{"a": 1},\n {"a"', 'is not valid JSON: .*line 2'),
    (b'[\n"\xe9"]', 'line 2: not a text in UTF-8'),
    (b'', 'is not valid JSON'), (b'[' * 100_000, 'is not valid JSON: maximum'),
    (b'[{"a": {"b": 1, "b": 2}}]', "not valid JSON: the key 'b' is there")])
def test_every_error_in_a_json_file_names_it(tmp_path, data, message):
  path = tmp_path / 'x.json'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message) as caught:
    entries.read_json(path)
  assert str(caught.value).startswith(str(path))
  assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match='no.json cannot be read'):
    entries.read_json(tmp_path / 'no.json')


def test_values_of_no_number_and_half_characters_are_named_where_used(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('[{"a": NaN, "b": "half \\ud83d", "c": "\\ud83d\\ude00"}]')
  entry, = entries.read_json(path)
  assert entries.field(path, 0, entry, 'c') == '\U0001f600'
  for key, kind, message in (('a', str, "'a' nan, wanted a string"),
                             ('a', int, "'a' nan, wanted a number"),
                             ('b', str, "'b' with a lone surrogate")):
    with pytest.raises(ValueError, match=f'x.json, entry 1: got {message}'):
      entries.field(path, 0, entry, key, kind)


@pytest.mark.parametrize('data, message', [
    ('a,b\n1,2,3\n', 'entry 1: got 3 columns, wanted 2: quote a text'),
    ('a,b\n1,x\ry\n', 'line 2: new-line character'),
    ('a,b\n1,' + 'x' * 200_000, 'line 2: field larger')])
def test_csv_rows_that_would_lose_a_part_are_named(tmp_path, data, message):
  path = tmp_path / 'x.csv'
  path.write_bytes(data.encode())
  with pytest.raises(ValueError, match=message) as caught:
    entries.read_csv(path, ('a',))
  assert str(caught.value).startswith(str(path))


def test_entries_that_cannot_be_used_are_left_out_with_their_reasons():
  def read(i, entry):
    if entry < 0:
      raise ValueError(f'f.json, entry {i + 1}: below zero')
    return entry or None
  assert entries.usable('dir/f.json', [3, -1, 0, 4, -2], read) == ([3, 4], (
      ('f.json:2', 'f.json, entry 2: below zero'),
      ('f.json:5', 'f.json, entry 5: below zero')))
  assert entries.usable('f', [], read) == entries.usable('f', [0], read) == (
      [], ())
  with pytest.raises(ValueError, match='entry 2: below zero'):
    entries.usable('dir/f.json', [0, -1, -1], read)


@pytest.mark.parametrize('text, number', [
    ('1', 1), ('1.0', 1), ('-2', -2), (' 3 ', 3), ('1e2', 100), ('0.5', None),
    ('', None), ('x', None), ('nan', None), ('inf', None)])
def test_whole_numbers(text, number):
  assert entries.whole_number(text) == number


@pytest.mark.parametrize('name', ['/a.mp4', '../a.mp4', 'b/../../a.mp4'])
def test_annotations_name_files_below_their_folder_alone(tmp_path, name):
  for look in (lambda: entries.below(tmp_path, name),
               lambda: entries.find(tmp_path, name, ('videos', ''))):
    with pytest.raises(ValueError, match='name files below it') as caught:
      look()
    assert repr(name) in str(caught.value)
  assert entries.below(tmp_path, 'b/a.mp4') == str(tmp_path / 'b/a.mp4')
