"""`jaxret serve`: what it says, and that it serves until it is interrupted."""
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import jaxret
from jaxret import cli
from jaxret.verbs import serve
from tests import tiny_index, tiny_serving

app = tiny_serving.part('app')
pytest.importorskip('uvicorn', reason=tiny_serving.REASON)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
  """No test writes to the user's own."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def test_what_is_wrong_is_one_line(capsys, tmp_path):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    for argv, said in (
        ([], 'the following arguments'), ([tmp_path], 'no index is there'),
        (['ftp://bucket/i'], 'an index lies in a directory'),
        ([tmp_path, '--port=70000'], '--port is 70000'),
        ([tmp_path, f'--port={port}'], f'127.0.0.1 port {port} cannot'),
        ([tmp_path, '--host=none.invalid'], 'none.invalid port 8000 cannot'),
        ([tmp_path, '--candidates=0'], '--candidates is 0'),
        ([tmp_path, '--max_upload_mb=nan'], '--max_upload_mb is nan')):
      argv = [*map(str, argv)] + ([] if any('--port' in str(one) or '--host' in
                                            str(one) for one in argv)
                                  else ['--port=0'])
      assert cli.main(['serve', *argv]) == 1
      shown = capsys.readouterr()
      assert said in shown.err and len(shown.err.strip().splitlines()) == 1


def test_without_its_libraries(capsys, monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'uvicorn', None)
  assert cli.main(['serve', str(tmp_path)]) == 1
  assert "pip install -e '.[serve]'" in capsys.readouterr().err


def test_addresses():
  for host in ('127.0.0.1', 'localhost'):
    with serve.bound(host, 0) as listening:
      assert serve.address(listening).startswith('http://')
  assert cli.main(['serve', '--help']) == 0


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(tmp_path):
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  jaxret.index(tmp_path / 'm', tiny_index.CLIP, tmp_path / 'i',
               show_progress=False)
  browser = tmp_path / 'browser'  # stands for the user's own
  browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
  browser.chmod(0o755)
  with subprocess.Popen(
      [sys.executable, '-m', 'jaxret', 'serve', tmp_path / 'i', '--port=0',
       '--max_upload_mb=1', '--open'], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, text=True, env=os.environ | {
          'JAX_PLATFORMS': 'cpu', 'BROWSER': str(browser)}) as process:
    try:
      said = process.stdout.readline()
      assert said.startswith(f'1 rows of {tmp_path / "i"}: open http://127.'), (
          process.stderr.read() if not said else said)
      url = said.split()[5]
      with urllib.request.urlopen(f'{url}/api/search?text=a') as answer:
        assert 'Server' not in answer.headers
        assert json.load(answer)['hits'][0]['path'] == 'a.png'
      for _ in range(3000):  # a thread opens it
        if (tmp_path / 'opened').is_file() and (
            (tmp_path / 'opened').read_text() == f'{url}\n'):
          break
        time.sleep(0.01)
      else:
        pytest.fail('no browser was opened')
      with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(
            f'{url}/', headers={'Host': 'evil.example'}))
      assert refused.value.code == 421
    finally:
      process.send_signal(signal.SIGINT)
      _, error = process.communicate(timeout=60)
  assert process.returncode in (0, 130) and 'Traceback' not in error
