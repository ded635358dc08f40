"""An object store of this machine, for tests: moto's S3 on the loopback."""
import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

REASON = ("no emulator of an object store is installed: pip install -e "
          "'.[index,ecosystem]'")


@contextlib.contextmanager
def served(log):
  """{environment variable: value} by which s3://bucket is reached."""
  pytest.importorskip('obstore', reason=REASON)
  if not all(map(importlib.util.find_spec, ('moto', 'flask', 'flask_cors'))):
    pytest.skip(REASON)
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  url = f'http://127.0.0.1:{port}'
  with log.open('wb') as said, subprocess.Popen(
      [sys.executable, '-m', 'moto.server', '-p', str(port)],
      stdout=said, stderr=said, env={**os.environ, 'NO_COLOR': '1'}) as process:
    try:
      _make_bucket(url, process, log)
      yield {'AWS_ENDPOINT_URL': url, 'AWS_ALLOW_HTTP': 'true',
             'AWS_ACCESS_KEY_ID': 'tests', 'AWS_SECRET_ACCESS_KEY': 'tests',
             'AWS_REGION': 'us-east-1'}
    finally:
      process.kill()


def _make_bucket(url, process, log):
  until = time.monotonic() + 60
  while True:
    try:
      asked = urllib.request.Request(f'{url}/bucket', b'', method='PUT')
      urllib.request.urlopen(asked, timeout=10).close()
      return
    except OSError:
      assert process.poll() is None and time.monotonic() < until, (
          log.read_text())
      time.sleep(0.05)
