"""A signal is seen at once, and answered where the work is whole."""
import os
import signal
import subprocess
import sys
import time

import pytest

from jaxret import interruption

# In one call that gives no way to Python's handlers, as compiling is.
STUCK = """
import hashlib, sys
from jaxret import interruption
with interruption.Interruption() as stopped:
  print('ready', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', int(sys.argv[1]))
  print(stopped.requested(1), flush=True)
"""


def stuck(rounds):
  process = subprocess.Popen(
      [sys.executable, '-c', STUCK, str(rounds)], text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
  assert process.stdout.readline() == 'ready\n'
  time.sleep(0.2)
  return process


def test_one_signal_asks_and_the_next_one_kills(capsys):
  before = signal.getsignal(signal.SIGTERM)
  with interruption.Interruption() as stopped:
    assert not stopped.requested(1) and not stopped.requested_since()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.requested(2) and stopped.requested_since()
    assert signal.getsignal(signal.SIGTERM) == before  # no second chance
  assert signal.getsignal(signal.SIGTERM) == before
  assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_answered_while_nothing_of_python_runs(number):
  process = stuck(10_000_000)
  process.send_signal(number)
  assert process.stderr.readline() == '\n'
  assert process.stderr.readline() == (
      'stopping after this step; again to stop now\n')
  assert process.poll() is None  # and goes on
  assert process.stdout.readline() == 'True\n'
  assert process.wait(timeout=60) == 0


def test_a_second_one_ends_it_within_seconds():
  process = stuck(10 ** 9)  # for many minutes
  process.send_signal(signal.SIGINT)
  for _ in range(2):
    process.stderr.readline()
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=30) == 130
  assert 'stopped' in process.stderr.read()


def test_signals_of_others_are_no_request(capsys):
  old = signal.signal(signal.SIGUSR1, lambda *_: None)
  try:
    with interruption.Interruption() as stopped:
      os.kill(os.getpid(), signal.SIGUSR1)
      time.sleep(0.05)
      assert not stopped.requested(1)
      assert 'stopping' not in capsys.readouterr().err
      for number in (signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
        time.sleep(0.05)
  finally:
    signal.signal(signal.SIGUSR1, old)
  assert capsys.readouterr().err.count('stopping') == 1
