"""The cache of descriptions: resuming, changed media, mixed settings."""
import json

import numpy as np
import pytest

from jaxret.data import descriptions, types

SETTINGS = {'model': 'a', 'max_new_tokens': 8}
WHERE = {'one': 'ids.txt, line 1', 'two': 'ids.txt, line 2'}


def record(item, text, settings=SETTINGS):
  return {'key': descriptions.key(settings, item), 'id': item.id,
          'text': text, 'tokens': 2, 'finish': 'stop'}


ONE, TWO = (types.Item(name, image=name.encode()) for name in WHERE)


def test_what_was_added_is_found_again(tmp_path):
  cache = descriptions.Cache(tmp_path / 'cache', SETTINGS)
  keys = [descriptions.key(SETTINGS, item) for item in (ONE, TWO)]
  assert cache.missing(keys) == [0, 1]
  cache.add([record(ONE, 'a dog')])
  assert cache.missing(keys) == [1]
  again = descriptions.Cache(tmp_path / 'cache', SETTINGS, 'part-1')
  assert again.missing(keys) == [1]
  again.add([record(TWO, 'né 猫')])
  assert descriptions.load(tmp_path / 'cache', WHERE) == {
      'one': 'a dog', 'two': 'né 猫'}


def test_a_line_cut_off_by_a_kill_is_written_again(tmp_path):
  cache = descriptions.Cache(tmp_path, SETTINGS)
  cache.add([record(ONE, 'a dog')])
  path = tmp_path / 'part-0.jsonl'
  with path.open('a') as file:
    file.write('{"key": "12", "id": "tw')
  cache = descriptions.Cache(tmp_path, SETTINGS)
  assert cache.missing([descriptions.key(SETTINGS, TWO)]) == [0]
  cache.add([record(TWO, 'a cat')])
  assert descriptions.load(tmp_path, WHERE) == {
      'one': 'a dog', 'two': 'a cat'}


@pytest.mark.parametrize('old, new', [
    ('a dog', 'a dig'), ('"one"', '"two"'), ('stop', 'stoq')])
def test_a_line_that_was_changed_is_made_again(tmp_path, caplog, old, new):
  cache = descriptions.Cache(tmp_path, SETTINGS)
  cache.add([record(ONE, 'a dog')])
  path = tmp_path / 'part-0.jsonl'
  path.write_text(path.read_text().replace(old, new))
  cache = descriptions.Cache(tmp_path, SETTINGS)
  assert f'{path}, line 2 is damaged' in caplog.text
  assert cache.missing([descriptions.key(SETTINGS, ONE)]) == [0]
  cache.add([record(ONE, 'a dog'), record(TWO, 'a cat')])
  assert descriptions.load(tmp_path, WHERE) == {
      'one': 'a dog', 'two': 'a cat'}


def test_a_line_of_before_has_no_checksum(tmp_path):
  descriptions.Cache(tmp_path, SETTINGS).add(
      [record(ONE, 'a dog'), record(TWO, 'a cat')])
  path = tmp_path / 'part-0.jsonl'
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line.pop('crc32', None) is None for line in lines] == [
      True, False, False]
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  assert descriptions.load(tmp_path, WHERE) == {
      'one': 'a dog', 'two': 'a cat'}


def test_keys_change_with_all_that_counts(tmp_path):
  file = tmp_path / 'x.png'
  file.write_bytes(b'1')
  pixels = np.zeros((2, 2, 3), np.uint8)
  variants = [
      (SETTINGS, ONE), ({**SETTINGS, 'model': 'b'}, ONE), (SETTINGS, TWO),
      (SETTINGS, types.Item('one', image=b'other')),
      (SETTINGS, types.Item('one', video=b'one')),
      (SETTINGS, types.Item('one', image=str(file))),
      (SETTINGS, types.Item('one', image=pixels)),
      (SETTINGS, types.Item('one', image=pixels + 1))]
  keys = [descriptions.key(*variant) for variant in variants]
  assert len(set(keys)) == len(keys)
  assert keys == [descriptions.key(*variant) for variant in variants]
  file.write_bytes(b'2')
  assert descriptions.key(*variants[5]) != keys[5]


def test_a_changed_image_is_described_again(tmp_path):
  old, new = ONE, types.Item('one', image=b'another picture')
  cache = descriptions.Cache(tmp_path, SETTINGS)
  cache.add([record(new, 'a cat'), record(old, 'a dog')])
  where = {'one': WHERE['one']}
  found = descriptions.load(
      tmp_path, where, {'one': descriptions.key(SETTINGS, new)})
  assert found == {'one': 'a cat'}


def test_missing_and_mixed_descriptions_are_refused(tmp_path):
  cache = descriptions.Cache(tmp_path, SETTINGS)
  cache.add([record(ONE, 'a dog')])
  with pytest.raises(ValueError, match=(
      "ids.txt, line 2: 'two' has no description in .* "
      r'\(1 of 2 are missing\); describe all first')):
    descriptions.load(tmp_path, WHERE)
  other = {**SETTINGS, 'max_new_tokens': 9}
  message = ('part-0.jsonl, line 2: made with max_new_tokens 8, this run has '
             '9: descriptions of different settings do not mix')
  with pytest.raises(ValueError, match=message):
    descriptions.Cache(tmp_path, other)
  apart = descriptions.Cache(tmp_path / 'other', other)
  apart.add([record(TWO, 'a cat', other)])
  (tmp_path / 'other' / 'part-0.jsonl').rename(tmp_path / 'part-1.jsonl')
  with pytest.raises(ValueError, match=(
      'part-1.jsonl, line 2: made with max_new_tokens 9, .*part-0.jsonl, '
      'line 2 has 8')) as error:
    descriptions.load(tmp_path, WHERE)
  assert '\n' not in str(error.value)


def test_lines_of_another_kind_are_refused(tmp_path):
  whole = {**record(ONE, 'a dog'), 'settings': 'x'}
  for line in ({'id': 'one'}, [], 3, {**whole, 'id': ['one']},
               {**whole, 'text': None}, {'fingerprint': [], 'settings': {}}):
    (tmp_path / 'part-0.jsonl').write_text(json.dumps(line) + '\n')
    with pytest.raises(ValueError, match='part-0.jsonl, line 1: wanted an obj'):
      descriptions.load(tmp_path, WHERE)


def test_texts_go_out_and_come_back(tmp_path, capsys):
  cache = descriptions.Cache(tmp_path / 'cache', SETTINGS)
  cache.add([record(ONE, 'a dog'), record(TWO, 'a cat\nasleep')])
  descriptions.main(['--cache', str(tmp_path / 'cache'), '--out',
                     str(tmp_path / 'texts')])
  assert (tmp_path / 'texts' / 'two.txt').read_text() == 'a cat\nasleep'
  assert descriptions.load(tmp_path / 'texts', WHERE)['one'] == 'a dog'
  for _ in range(2):  # the second finds them all
    descriptions.main(['--texts', str(tmp_path / 'texts'), '--cache',
                       str(tmp_path / 'back')])
  assert capsys.readouterr().out.splitlines() == [
      '2 descriptions written', *['2 descriptions read'] * 2]
  assert descriptions.load(tmp_path / 'back', WHERE) == {
      'one': 'a dog', 'two': 'a cat\nasleep'}
  (tmp_path / 'texts' / 'two.txt').unlink()
  with pytest.raises(ValueError, match="line 2: 'two' has no description"):
    descriptions.load(tmp_path / 'texts', WHERE)
  with pytest.raises(SystemExit, match='error: .* holds no descriptions'):
    descriptions.main(['--cache', str(tmp_path / 'no'), '--out', 'x'])


def test_ids_that_are_no_names_stay_in_the_directory(tmp_path):
  ids = ('a.mp4', 'sub/b.mp4', '../../outside', '..', 'x' * 300, '100%')
  cache = descriptions.Cache(tmp_path / 'in/cache', SETTINGS)
  cache.add([record(types.Item(name, image=name.encode()), f'of {name}')
             for name in ids])
  texts = tmp_path / 'in/deep/texts'
  assert descriptions.export_texts(tmp_path / 'in/cache', texts) == len(ids)
  assert sorted(path.parent for path in tmp_path.rglob('*.txt')) == (
      [texts] * len(ids))
  where = {name: f'list, line {i}' for i, name in enumerate(ids)}
  wanted = {name: f'of {name}' for name in ids}
  assert descriptions.load(texts, where) == wanted
  assert descriptions.import_texts(texts, tmp_path / 'in/back') == len(ids)
  short = {name: line for name, line in where.items() if len(name) < 300}
  assert descriptions.load(tmp_path / 'in/back', short) == {
      name: wanted[name] for name in short}


def test_texts_of_editors_are_read(tmp_path):
  """With a byte order mark, Windows' ends of lines, a name of their own."""
  (tmp_path / 'one.txt').write_bytes('\ufeffa dog\r\nruns\r\n'.encode())
  (tmp_path / 'two.txt').write_bytes('a\u2028cat\x0b'.encode())
  (tmp_path / '100%.txt').write_text('all')
  assert descriptions.load(tmp_path, {**WHERE, '100%': 'line 3'}) == {
      'one': 'a dog\nruns', 'two': 'a\u2028cat\x0b', '100%': 'all'}


def test_a_character_that_a_killed_process_cut_is_passed_over(tmp_path):
  descriptions.Cache(tmp_path, SETTINGS).add([record(ONE, 'a dog')])
  with (tmp_path / 'part-0.jsonl').open('ab') as file:
    file.write('{"key": "é'.encode()[:-1])
  cache = descriptions.Cache(tmp_path, SETTINGS)
  cache.add([record(TWO, 'a\u2028cat')])
  assert descriptions.load(tmp_path, WHERE) == {
      'one': 'a dog', 'two': 'a\u2028cat'}
