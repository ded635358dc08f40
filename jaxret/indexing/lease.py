"""One writer at a time of an index in an object store.

There is no lock there that ends with its process. Who writes owns an object,
made where none was, and renews it; each renewal replaces what was there before
and nothing else (conditional requests, which S3, GCS and Azure know). One that
stays as it is for LEASE_S seconds was left by a process that was killed, and is
taken over. No two clocks are compared: who waits looks at its own, and who
writes ends when its own renewal is older than half of that.

Not covered is a process that is stopped in the midst of a single write for
longer than half of LEASE_S and then goes on with it.
"""
import json
import os
import socket
import sys
import threading
import time
from typing import Any, Self

from absl import logging

NAME = 'writer.json'
LEASE_S = 60.0
# A clock that goes on while the machine sleeps, where there is one.
_CLOCK = getattr(time, 'CLOCK_BOOTTIME', time.CLOCK_MONOTONIC)


class Lease:
  """Owns NAME in a store while the context is open.

  obstore: the module; store: of it; url: for messages. Raises ValueError where
  another run owns it, and where the store passes conditions by.
  """

  def __init__(self, obstore: Any, store: Any, url: str):
    self._obstore, self._store, self._url = obstore, store, url
    self._conflicts = (obstore.exceptions.AlreadyExistsError,
                       obstore.exceptions.PreconditionError)
    self._token = os.urandom(16).hex()
    self._count = 0
    self._tag: dict[str, str] | None = None
    self._renewed = 0.0
    self._lost = False
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._renew, daemon=True)

  def __enter__(self) -> Self:
    self._take()
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._end.set()
    self._thread.join()
    try:
      there = self._there()
      if there is not None and there[1].get('token') == self._token:
        self._obstore.delete(self._store, NAME)
    except Exception as error:  # the next run waits for it
      logging.warning('%s/%s could not be removed (%.200s): the next run waits '
                      '%g s', self._url, NAME, error, LEASE_S)

  def check(self) -> None:
    """To be called before each write; ValueError where it is ours no more."""
    if self._lost or _now() - self._renewed > LEASE_S / 2:
      raise ValueError(
          f'{self._url}: this run lost hold of the index, it was stopped or '
          'cut off for too long; what it wrote is kept: call it again')

  def _take(self):
    seen, since = None, 0.0
    while not self._put('create'):
      there = self._there()
      if there is None:
        continue  # removed just now
      tag, holder = there
      if seen is None:
        seen, since = tag, _now()
        logging.warning(
            '%s is held by %s: waiting for up to %g s to see whether that run '
            'is alive', self._url, _named(holder), LEASE_S)
      elif tag != seen or _now() - since > LEASE_S:
        if tag == seen and self._put(seen):
          return
        raise ValueError(f'{self._url} is in use by {_named(holder)}: wait for '
                         'it, stop it, or use another index')
      time.sleep(LEASE_S / 60)
    first = self._tag
    if not (self._refused('create') and self._put(first) and
            self._refused(first)):
      self._obstore.delete(self._store, NAME)
      raise ValueError(
          f'{self._url}: this store passes conditions by (If-None-Match, '
          'If-Match), so that two runs could write at once: index into a '
          'directory, and copy that')

  def _refused(self, mode):
    """Whether what must not be written is not."""
    try:
      self._obstore.put(self._store, NAME, self._content(), mode=mode)
    except self._conflicts:
      return True
    return False

  def _renew(self):
    while not self._end.wait(LEASE_S / 4):
      try:
        if not self._put(self._tag):
          self._lost = True
          return
      except Exception as error:  # it is tried again; `check` knows how long
        logging.warning('%s: %.200s', self._url, error)

  def _put(self, mode):
    """Whether ours is there now: where nothing was, or in place of a tag."""
    now = _now()
    self._count += 1
    try:
      done = self._obstore.put(self._store, NAME, self._content(), mode=mode)
    except FileNotFoundError:
      if mode == 'create':
        raise  # there is no such bucket
      return False
    except self._conflicts:
      # An answer may have been lost, and the request made again.
      there = self._there()
      if there is None or (there[1].get('token'), there[1].get('count')) != (
          self._token, self._count):
        return False
      self._tag = there[0]
    else:
      self._tag = _tag_of(done)
    self._renewed = now
    return True

  def _there(self):
    """(tag, what the object says) or None."""
    try:
      found = self._obstore.get(self._store, NAME)
    except FileNotFoundError:
      return None
    try:
      said = json.loads(bytes(found.bytes()))
    except ValueError:
      said = None
    return _tag_of(found.meta), said if isinstance(said, dict) else {}

  def _content(self):
    return json.dumps({
        'token': self._token, 'count': self._count, 'process': os.getpid(),
        'host': socket.gethostname(),
        'since': time.strftime('%Y-%m-%d %H:%M:%S'), 'command': sys.argv,
    }).encode()


def _tag_of(found):
  """What tells one object from another of its name, as `put` takes it."""
  return {name: found[name] for name in ('e_tag', 'version') if found[name]}


def _named(holder):
  return (f'process {holder.get("process")} on {holder.get("host")} since '
          f'{holder.get("since")}')


def _now():
  return time.clock_gettime(_CLOCK)
