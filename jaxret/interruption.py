"""SIGTERM and Ctrl-C, answered by a loop where its work is whole."""
import contextlib
import os
import signal
import socket
import sys
import threading

import jax
from jax.experimental import multihost_utils

_GRACE_S = 2.0  # for the main thread to end by itself


class Interruption(contextlib.AbstractContextManager):
  """Turns SIGTERM and Ctrl-C into a request that the loop can answer.

  The first is answered on standard error at once, also while a program is
  compiled; a second one stops at once. With several processes a signal to any
  of them stops all at the same step, through JAX's preemption service, which
  listens to SIGTERM; Ctrl-C is passed on to it.
  """

  def __init__(self):
    self._requested = False
    self._old = {}
    self._watch = None

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      if jax.process_count() == 1:
        self._listen(signal.SIGTERM, self._request)
        self._listen(signal.SIGINT, self._request)
      else:
        self._listen(signal.SIGINT, self._pass_on)
      self._watch = _Watch(set(self._old))
    return self

  def _listen(self, number, handler):
    self._old[number] = signal.signal(number, handler)

  def _request(self, number, frame):
    self._requested = True
    signal.signal(number, self._old[number])

  def _pass_on(self, number, frame):
    signal.signal(number, self._old[number])
    os.kill(os.getpid(), signal.SIGTERM)

  def requested(self, step):
    """Whether to stop after this step; the same answer on all processes."""
    if jax.process_count() == 1:
      return self._requested
    return multihost_utils.reached_preemption_sync_point(step)

  def requested_since(self):
    """Whether one came after the last `requested`, of one process alone."""
    return jax.process_count() == 1 and self._requested

  def __exit__(self, *error):
    if self._watch is not None:
      self._watch.close()
    for number, handler in self._old.items():
      signal.signal(number, handler)


class _Watch:
  """Sees signals while the main thread is in a call that does not return.

  Python runs its handlers between the steps of Python's own code; the number
  of a signal is written to a socket as soon as it comes.
  """

  def __init__(self, numbers):
    self._numbers, self._left = numbers, threading.Event()
    self._reader, self._writer = socket.socketpair()
    self._writer.setblocking(False)
    self._old = signal.set_wakeup_fd(
        self._writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=self._answer, daemon=True).start()

  def _answer(self):
    count = 0
    while number := self._reader.recv(1):
      if number[0] not in self._numbers:
        continue
      count += 1
      if count == 1:
        print('\nstopping after this step; again to stop now', file=sys.stderr,
              flush=True)
      elif not self._left.wait(_GRACE_S):
        print('stopped; checkpoints that were finished are whole',
              file=sys.stderr, flush=True)
        os._exit(130)

  def close(self):
    self._left.set()
    signal.set_wakeup_fd(self._old)
    self._writer.close()  # the thread reads the end of it
