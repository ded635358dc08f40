"""Items that threads read ahead of a device, and what is done with bad ones."""
import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import logging

READ_AHEAD = 2  # batches whose items are read while the device works


def read_ahead(
    read: Callable[[int], Any], indices: Iterable[int], ahead: int
    ) -> Iterator[tuple[int, Callable[[], Any]]]:
  """Yields (index, function that gives read(index) or raises), in order.

  Threads read; at most about `ahead` results wait.
  """
  # Never shut down, which takes locks: what a caller left unfinished may be
  # collected in a thread that is starting and holds them. Idle threads end
  # with the pool.
  pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
  waiting: collections.deque = collections.deque()
  try:
    for index in indices:
      waiting.append((index, pool.submit(read, index)))
      if len(waiting) > ahead:
        index, future = waiting.popleft()
        yield index, future.result
    while waiting:
      index, future = waiting.popleft()
      yield index, future.result
  finally:
    for _, future in waiting:
      future.cancel()


def usable(results: Iterable[tuple[int, Callable[[], Any]]],
           name: Callable[[int], str],
           failed: Callable[[ValueError], None]) -> Iterator[tuple[int, Any]]:
  """Yields (index, result) of what was read; the rest is told to `failed`.

  name: what an item is called whose error is not foreseen.
  """
  for index, result in results:
    try:
      value = result()
    except ValueError as error:  # media.MediaError is one
      failed(error)
    except BaseException as error:  # no item ends the work on the others
      # A panic of a tokenizer, which is written in Rust, is no Exception.
      if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise
      unforeseen = ValueError(
          f'{name(index)}: it cannot be used '
          f'({type(error).__name__} {error})'.replace('\n', ' '))
      unforeseen.__cause__ = error
      failed(unforeseen)
    else:
      yield index, value


def reaction(on_error: str | Callable[[ValueError], None]
             ) -> Callable[[ValueError], None]:
  """What is done with the error of an item."""
  if callable(on_error):
    return on_error
  if on_error not in ('raise', 'skip'):
    raise ValueError(f"on_error is {on_error!r}; want 'raise' or 'skip'")
  def failed(error):
    if on_error == 'raise':
      raise error
    logging.warning('skipped: %s', error)
  return failed
