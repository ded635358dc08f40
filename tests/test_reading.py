"""Reading ahead: order, what is left unfinished, what is done with errors."""
import threading
import time

import pytest

from jaxret import reading


def test_what_a_caller_leaves_unfinished_is_not_waited_for():
  """It may be collected in a thread whose locks the waiting would need."""
  go, done = threading.Event(), []
  def read(index):
    go.wait(20)
    done.append(index)
  results = reading.read_ahead(read, range(1000), 100)
  next(results)
  start = time.monotonic()
  results.close()
  assert time.monotonic() - start < 10 and not done
  go.set()


def test_results_come_in_order_and_errors_are_told():
  def read(index):
    if index % 3 == 1:
      raise [ValueError(f'item {index}'), KeyError('x')][index % 2]
    time.sleep(0.002 * (index % 2))
    return 10 * index
  failed = []
  found = list(reading.usable(reading.read_ahead(read, range(9), 4),
                              'item {}'.format, failed.append))
  assert found == [(i, 10 * i) for i in (0, 2, 3, 5, 6, 8)]
  assert [str(one) for one in failed] == [
      "item 1: it cannot be used (KeyError 'x')", 'item 4',
      "item 7: it cannot be used (KeyError 'x')"]


def test_who_stops_it_is_heard():
  def read(index):
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    list(reading.usable(reading.read_ahead(read, range(3), 1), str, print))


def test_reactions():
  told = []
  assert reading.reaction(told.append) == told.append
  reading.reaction('skip')(ValueError('x'))
  with pytest.raises(ValueError, match='x'):
    reading.reaction('raise')(ValueError('x'))
  with pytest.raises(ValueError, match="want 'raise' or 'skip'"):
    reading.reaction('ignore')
