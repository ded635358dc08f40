"""skipped.jsonl holds what was written, or less, and says so."""
import json

import pytest

from jaxret import own_files, skipped

RECORDS = [{'id': 'a.mp4', 'reason': 'cut', 'split': 'train'},
           {'id': '\u00e9.mp4', 'reason': 'no frames', 'split': 'test'},
           {'id': 'b.mp4', 'reason': 'empty', 'split': 'test'}]


@pytest.fixture
def written(tmp_path):
  assert skipped.read(tmp_path) == []
  skipped.add(tmp_path, RECORDS[:2])
  skipped.add(tmp_path, RECORDS[1:])
  return tmp_path / skipped.NAME


def test_what_was_written_is_read_once_each(written):
  assert skipped.read(written.parent) == RECORDS
  for line in written.read_text().splitlines():
    record = json.loads(line)
    checksum = record.pop('crc32')
    assert checksum == own_files.checksum(json.dumps(
        record, sort_keys=True).encode())


def test_no_bit_makes_another_record(written, caplog):
  """Nor a line too few unsaid: each is what it was, or named."""
  data = written.read_bytes()
  for place in range(len(data)):
    for bit in range(8):
      spoilt = bytearray(data)
      spoilt[place] ^= 1 << bit
      written.write_bytes(spoilt)
      caplog.clear()
      found = skipped.read(written.parent)
      assert all(record in RECORDS for record in found)
      if len(found) < len(RECORDS):
        assert f'{written}, line ' in caplog.text
        assert 'is damaged and does not count' in caplog.text


@pytest.mark.parametrize('line', [
    b'{"id": "c', b'[1]', b'7', b'\0\0', b'[' * 100_000, b'\xff',
    b'{"id": "c"}', b'{"id": ["c"], "reason": "x"}',
    b'{"id": "c", "reason": "x", "crc32": 7}'])
def test_a_line_that_is_none_is_passed_over_and_written_no_more(
    written, line, caplog):
  first, *others = written.read_bytes().splitlines()
  written.write_bytes(b'\n'.join([first, line, *others]))
  assert skipped.read(written.parent) == RECORDS
  assert f'{written}, line 2 is damaged' in caplog.text
  skipped.add(written.parent, [])
  assert written.read_bytes().splitlines() == [first, *others]


def test_what_was_damaged_is_listed_again(written):
  whole = written.read_bytes()
  written.write_bytes(whole.replace(b'no frames', b'no fRames'))
  assert skipped.read(written.parent) == [RECORDS[0], RECORDS[2]]
  skipped.add(written.parent, RECORDS[1:2])
  assert sorted(written.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_lines_of_before_there_were_checksums_count(tmp_path):
  (tmp_path / skipped.NAME).write_text(''.join(
      json.dumps(record) + '\n' for record in (*RECORDS, RECORDS[0])))
  assert skipped.read(tmp_path) == [*RECORDS, RECORDS[0]]
