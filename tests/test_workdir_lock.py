"""Two runs never write one workdir at a time; no lock is ever left over."""
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys

import pytest

import jaxret
from jaxret import workdir_lock

HOLD = """
import sys
from jaxret import workdir_lock
with workdir_lock.held(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  process = subprocess.Popen(
      [sys.executable, '-c', HOLD, tmp_path / 'run'], text=True,
      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
  assert process.stdout.readline() == 'held\n'
  yield process
  process.kill()
  process.wait()


def test_the_one_that_comes_second_is_told_who_has_it(tmp_path, holder):
  with pytest.raises(ValueError, match=f'in use by process {holder.pid} on '
                     ) as caught, workdir_lock.held(tmp_path / 'run'):
    pytest.fail('held twice')
  assert str(tmp_path / 'run') in str(caught.value)
  with workdir_lock.held(tmp_path / 'another'):
    pass


@pytest.mark.parametrize('end', ['leaves', signal.SIGTERM, signal.SIGKILL])
def test_it_is_free_however_its_holder_ended(tmp_path, holder, end):
  if end == 'leaves':
    holder.stdin.close()
  else:
    holder.send_signal(end)
  holder.wait(timeout=60)
  assert (tmp_path / 'run' / '.lock').is_file()  # the file stays, not the lock
  for _ in range(2):
    with workdir_lock.held(tmp_path / 'run'):
      record = json.loads((tmp_path / 'run' / '.lock').read_text())
      assert record['process'] == os.getpid()


@pytest.mark.parametrize('content', ['', '{"process"', '[]', '{}'])
def test_a_holder_that_has_not_written_its_name_yet(tmp_path, content):
  with (tmp_path / '.lock').open('w') as file:
    file.write(content)
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match='in use by another run'), \
        workdir_lock.held(tmp_path):
      pytest.fail('held twice')


def test_a_file_system_without_locks_is_warned_of(
    tmp_path, monkeypatch, caplog):
  def no_locks(*_):
    raise OSError(errno.ENOLCK, 'No locks available')
  monkeypatch.setattr(fcntl, 'flock', no_locks)
  with workdir_lock.held(tmp_path):
    pass
  assert f'{tmp_path}: this file system has no locks' in caplog.text


def test_calls_of_the_library_hold_the_directory_that_they_write(
    tmp_path, holder):
  """Refused before a model is read; free when the holder is killed."""
  calls = jaxret.score_matrix, jaxret.search_pairs
  def refused(call):
    with pytest.raises(ValueError) as caught:
      call(['a.mp4'], ['one'], tmp_path / 'no model', workdir=tmp_path / 'run')
    return str(caught.value)
  for call in calls:
    assert refused(call).startswith(
        f'{tmp_path / "run"} is in use by process {holder.pid} on ')
  holder.kill()
  holder.wait()
  for call in calls * 2:  # and what fails keeps no lock
    # score_matrix takes models of the hub, too.
    assert re.search('no model(: no| holds).*config.json', refused(call))
  record = json.loads((tmp_path / 'run' / '.lock').read_text())
  assert record['process'] == os.getpid()


def test_a_call_without_a_workdir_leaves_nothing():
  with workdir_lock.held_or_passing(None) as directory:
    assert directory.is_dir()
  assert not directory.exists()


def test_the_lock_alone_is_no_result(tmp_path):
  from jaxret import checkpoint
  with workdir_lock.held(tmp_path):
    assert not checkpoint.has_results(tmp_path)
