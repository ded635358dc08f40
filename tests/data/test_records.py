"""Data sets of plain bytes: whole or absent, and only what was asked for."""
import json
import os

import pytest

from jaxret.data import records

EXAMPLES = [{'a': b'', 'b': b'x' * 70_000}, {'a': b'\x00\xff', 'b': b'2'}]


def test_bytes_come_back_in_order(tmp_path):
  assert not records.exists(tmp_path)
  records.write(tmp_path, ('a', 'b'), iter(EXAMPLES))
  assert records.exists(tmp_path)
  source = records.read(tmp_path)
  assert len(source) == 2
  for i in (1, 0, 1):
    assert {key: source[i][key] for key in 'ab'} == EXAMPLES[i]


def test_what_fails_in_the_middle_does_not_count(tmp_path):
  def broken():
    yield EXAMPLES[0]
    raise OSError('disk full')
  with pytest.raises(OSError, match='disk full'):
    records.write(tmp_path, ('a', 'b'), broken())
  assert not records.exists(tmp_path)
  records.write(tmp_path, ('a', 'b'), EXAMPLES)
  assert records.read(tmp_path)[1]['a'] == EXAMPLES[1]['a']
  assert not [name for name in os.listdir(tmp_path / 'records')
              if name.startswith('incomplete')]


def test_a_directory_belongs_to_what_it_was_made_from(tmp_path):
  manifest = {'ids': ['a', 'b'], 'vision': {'px': 4, 'sizes': (1, 2)}}
  records.claim(tmp_path, manifest)
  records.claim(tmp_path, manifest)  # tuples are lists in JSON
  assert records.read_manifest(tmp_path) == json.loads(json.dumps(manifest))
  with pytest.raises(ValueError, match='vision.px 4, now it is 8'):
    records.claim(tmp_path, {**manifest, 'vision': {'px': 8, 'sizes': [1, 2]}})
  with pytest.raises(ValueError, match="difference at 1: 'b' there, 'c' now"):
    records.claim(tmp_path, {**manifest, 'ids': ['a', 'c']})


def test_no_data_set_is_said(tmp_path):
  with pytest.raises(ValueError, match='no manifest.json'):
    records.read_manifest(tmp_path)


def spoilt(path):
  """[what was done, the bytes that are left] of a file."""
  data = path.read_bytes()
  yield 'cut', data[:len(data) // 2]
  yield 'empty', b''
  for place in range(len(data) // 9, len(data), len(data) // 4):
    changed = bytearray(data)
    changed[place] ^= 8
    yield f'bit at {place}', bytes(changed)
  yield 'removed', None


def test_damaged_records_are_refused_by_their_directory(tmp_path):
  """Or read as they were, where the damage touched nothing of them."""
  out, refused = tmp_path / 'set', 0
  records.write(out, ('a', 'b'), EXAMPLES)
  for path in sorted(p for p in (out / 'records').rglob('*') if p.is_file()):
    whole = path.read_bytes()
    for how, data in spoilt(path):
      path.unlink() if data is None else path.write_bytes(data)
      try:
        found = records.read(out)
        assert [found[i] for i in range(len(found))] == EXAMPLES, (path, how)
      except ValueError as error:
        assert str(out) in str(error) and '\n' not in str(error)
        refused += 1
      path.write_bytes(whole)
  assert refused > 5
