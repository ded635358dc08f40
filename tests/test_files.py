"""Files are whole or not there, whatever interrupts the writing of them."""
import concurrent.futures
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxret import files


def test_texts_and_bytes_take_the_place_of_what_was_there(tmp_path):
  path = tmp_path / 'new' / 'a.json'
  files.write_atomically(path, 'größer')
  assert path.read_bytes() == 'größer'.encode()
  files.write_atomically(path, b'\x00\xff')
  assert path.read_bytes() == b'\x00\xff'
  files.save_atomically(path, lambda file: np.save(file, np.arange(3)))
  np.testing.assert_array_equal(np.load(path), np.arange(3))
  assert list(path.parent.iterdir()) == [path]


def test_what_fails_while_it_writes_changes_nothing(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('old')
  def fail(file):
    file.write(b'half')
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    files.save_atomically(path, fail)
  assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('old')
  code = ('import sys, time; from jaxret import files\n'
          'def save(file):\n'
          '  file.write(b"half"); file.flush(); print("now", flush=True)\n'
          '  time.sleep(60)\n'
          'files.save_atomically(sys.argv[1], save)')
  process = subprocess.Popen([sys.executable, '-c', code, str(path)],
                             stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == 'now\n'
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert path.read_text() == 'old'
  left = [p.name for p in tmp_path.iterdir() if p != path]
  assert len(left) == 1 and left[0].startswith('.a.txt.')


def test_threads_that_write_one_file_do_not_mix(tmp_path):
  path = tmp_path / 'a.bin'
  contents = [bytes([i]) * 100_000 for i in range(8)]
  def write(content):
    def save(file):
      file.write(content[:50_000])
      time.sleep(0.01)
      file.write(content[50_000:])
    files.save_atomically(path, save)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(write, contents))
  assert path.read_bytes() in contents
  assert os.listdir(tmp_path) == ['a.bin']


def test_of_many_writers_of_a_new_file_one_is_told_that_it_was_first(tmp_path):
  path = tmp_path / 'a.bin'
  def write(number):
    def save(file):
      time.sleep(0.01)
      file.write(bytes([number]) * 1000)
    return files.save_new(path, save)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    first = list(pool.map(write, range(8)))
  assert sum(first) == 1
  assert path.read_bytes() == bytes([first.index(True)]) * 1000
  assert os.listdir(tmp_path) == ['a.bin']


def test_what_is_announced_is_on_disk_with_its_name(tmp_path, monkeypatch):
  """The file before it takes its name, the directory after."""
  calls = []
  fsync, replace = os.fsync, os.replace
  def recorded(descriptor):
    calls.append(os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}')))
    fsync(descriptor)
  monkeypatch.setattr(os, 'fsync', recorded)
  monkeypatch.setattr(os, 'replace', lambda *paths: (
      calls.append('replace'), replace(*paths)))
  files.write_atomically(tmp_path / 'a.txt', 'new')
  assert len(calls) == 3 and calls[0].startswith('.a.txt.')
  assert calls[1:] == ['replace', tmp_path.name]


IDS = ('a', 'a b', 'a.mp4', 'Ünï', '日本語', '../../outside', '/etc/x', '.',
       '..', '한국어', '...', '.hidden', 'a/b', 'a%2Fb', 'a%2fb', '%', '', '~a',
       'a~', '\x00', 'a\n', 'a\\b', 'half \ud83d', 'x' * 160, 'x' * 161,
       'x' * 162, 'é' * 90, 'x' * 5000, 'x' * 4999 + 'y', '~' + 'x' * 200)


def test_ids_become_names_in_a_directory_and_differ_where_ids_do(tmp_path):
  names = [files.name_of_id(name) for name in IDS]
  assert len(set(names)) == len(IDS)
  assert names[:5] == list(IDS[:5])
  for name, text in zip(names, IDS):
    files.write_atomically(tmp_path / 'in' / f'{name}.txt', repr(text))
  assert list(tmp_path.iterdir()) == [tmp_path / 'in']
  found = {path.name: path.read_text() for path in (tmp_path / 'in').iterdir()}
  assert found == {f'{name}.txt': repr(text) for name, text in zip(names, IDS)}
  # What is not cut is given back; a name that is no such is its own id.
  for name, text in zip(names, IDS):
    assert files.id_of_name(name) == (name if name[0] == '~' else text)
  assert files.id_of_name('100%') == '100%' and files.id_of_name('%41') == '%41'
