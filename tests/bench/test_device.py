"""The device bench: parts one by one, a table, and a way on past failures."""
import json
import time

import pytest

from jaxret.bench import device

ROW = {'name': 'a', 'seconds': 2.0, 'count': 10, 'unit': 'pairs',
       'flops': 6e9}


@pytest.fixture
def parts(monkeypatch):
  """Three parts of which the second fails."""
  def fails(options, mesh):
    raise MemoryError('no room\nfor it')
  monkeypatch.setattr(device, 'PARTS', {
      'good': ('works', lambda options, mesh: [dict(ROW)]),
      'bad': ('fails', fails),
      'last': ('works', lambda options, mesh: [{'name': 'b', 'off': 1e-6}])})


def test_one_part_that_fails_leaves_the_others(parts, capsys):
  assert device.main(['--preset=tiny']) == 0
  out = capsys.readouterr().out
  result = json.loads(out.splitlines()[-1])
  good, bad, last = (result['parts'][name] for name in ('good', 'bad', 'last'))
  row, = good['rows']
  peak, devices = result['peak_flops_per_s'], result['devices']
  assert row['flops_per_s'] == 3e9
  assert row['utilization'] == pytest.approx(3e9 / peak / devices)
  assert bad['failed'] == 'MemoryError: no room\nfor it'
  assert last['rows'] == [{'name': 'b', 'off': 1e-6}]
  assert '| good: a | 2 | 5 pairs/s |' in out
  assert '| bad | | | | MemoryError: no room |' in out
  assert '| last: b |  |  |  | off 1e-06 |' in out


def test_what_there_is_no_time_for_is_named(parts):
  options = device.parse(['--preset=tiny', '--minutes=1e-9',
                          '--only=last,good'])
  time.sleep(0.01)
  found = device.measure(options)['parts']
  assert list(found) == ['last', 'good']
  assert all('no time' in part['left_out'] for part in found.values())


@pytest.mark.parametrize('flag', [
    '--only=scoring,nothing', '--minutes=0', '--minutes=nan', '--rows=0',
    '--preset=8b'])
def test_flags_that_make_no_sense_are_refused(flag, capsys):
  with pytest.raises(SystemExit):
    device.parse([flag])
  assert flag.split('=')[0] in capsys.readouterr().err
