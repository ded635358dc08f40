"""Who asks a server on this machine, and who opens a file: for tests."""
import contextlib
import ctypes
import http.server
import os
import struct
import threading

_IN_ACCESS, _IN_OPEN = 0x1, 0x20  # from Linux's sys/inotify.h


@contextlib.contextmanager
def server():
  """Gives ('http://127.0.0.1:port', the list of what is asked of it)."""
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked.append(self.path)
      self.send_response(200)
      self.end_headers()
      self.wfile.write(b'x' * 100)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as found:
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
      yield f'http://127.0.0.1:{found.server_address[1]}', asked
    finally:
      found.shutdown()
      thread.join()


class Watch:
  """Counts how often a file was opened or read, by whatever library."""

  def __init__(self, path):
    libc = ctypes.CDLL(None, use_errno=True)
    self._events = libc.inotify_init1(os.O_NONBLOCK)
    number = libc.inotify_add_watch(
        self._events, os.fsencode(path), _IN_ACCESS | _IN_OPEN)
    assert self._events >= 0 and number >= 0, os.strerror(ctypes.get_errno())

  def count(self):
    """Events since the last call."""
    try:
      found = os.read(self._events, 1 << 16)
    except BlockingIOError:
      return 0
    events = 0
    while found:
      size = struct.unpack_from('I', found, 12)[0]
      found, events = found[16 + size:], events + 1
    return events

  def close(self):
    os.close(self._events)
