"""One writer at a time, where nothing but conditional requests tells."""
import json
import time

import pytest

from jaxret.indexing import lease

obstore = pytest.importorskip('obstore', reason='obstore is not installed: pip '
                              "install -e '.[index]'")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(lease, 'LEASE_S', 0.6)


@pytest.fixture
def memory():
  from obstore.store import MemoryStore
  return MemoryStore()


def owned(store):
  return lease.Lease(obstore, store, 's3://bucket/i')


def left(store, **said):
  """What a process that was killed leaves."""
  obstore.put(store, lease.NAME, json.dumps(
      {'token': 'other', 'process': 7, 'host': 'there', 'since': 'noon'} | said
  ).encode())


def test_one_at_a_time(memory):
  with owned(memory) as held:
    held.check()
    with pytest.raises(ValueError, match='s3://bucket/i is in use by process '
                       r'\d+ on .*: wait for it') as error, owned(memory):
      pass
    assert '\n' not in str(error.value)
    held.check()
  with owned(memory) as held:  # nothing is left over
    held.check()


def test_what_a_killed_run_leaves_is_taken_over(memory):
  left(memory)
  start = time.monotonic()
  with owned(memory) as held:
    assert time.monotonic() - start >= 0.6
    held.check()
    time.sleep(0.5)  # it is renewed
    held.check()


def test_of_two_that_wait_one_takes_it(memory):
  """The other one finds it changed, though nobody was there at first."""
  left(memory)
  first, second = owned(memory), owned(memory)
  there = second._there
  def taken_between():
    found = there()
    if found[1]['token'] == 'other' and not first._thread.is_alive():
      first.__enter__()
    return found
  second._there = taken_between
  with pytest.raises(ValueError, match='in use by process'):
    second.__enter__()
  first.check()
  first.__exit__(None, None, None)


def test_a_run_that_lost_it_writes_no_more(memory):
  with owned(memory) as held:
    left(memory)  # taken over, as by a run that waited
    until = time.monotonic() + 5
    while time.monotonic() < until:
      try:
        held.check()
      except ValueError as error:
        assert 'lost hold of the index' in str(error)
        break
      time.sleep(0.02)
    else:
      pytest.fail('it goes on')
  said = bytes(obstore.get(memory, lease.NAME).bytes())
  assert json.loads(said)['token'] == 'other'  # and stays the other's


def test_a_run_that_cannot_renew_writes_no_more(memory, monkeypatch):
  with owned(memory) as held:
    def cut_off(mode):
      raise OSError('no route')
    monkeypatch.setattr(held, '_put', cut_off)
    held.check()
    time.sleep(0.4)
    with pytest.raises(ValueError, match='cut off for too long'):
      held.check()


def test_a_store_that_passes_conditions_by_is_refused(memory):
  class Careless:
    exceptions = obstore.exceptions
    get, delete = staticmethod(obstore.get), staticmethod(obstore.delete)

    @staticmethod
    def put(store, name, data, mode):
      return obstore.put(store, name, data)
  with pytest.raises(ValueError, match='passes conditions by'):
    lease.Lease(Careless, memory, 's3://bucket/i').__enter__()
  with pytest.raises(FileNotFoundError):
    obstore.get(memory, lease.NAME)
