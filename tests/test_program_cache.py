"""Compiled programs are kept, found again by other processes, and bounded."""
import json
import os
import subprocess
import sys
import time

import pytest

import jaxret
from jaxret import process_settings, program_cache
from tests import tiny_index

CODE = """
import json, sys, jax
from jaxret import process_settings
process_settings.keep_compiled_of_user()
found = []
jax.monitoring.register_event_listener(
    lambda name, **_: found.append(name.rpartition('/')[2]))
jax.jit(lambda x: x * 3 + 1)(2.0).block_until_ready()
print(json.dumps({'dir': jax.config.jax_compilation_cache_dir,
                  'hits': found.count('cache_hits')}))
"""


def run(**environment):
  kept = {name: value for name, value in os.environ.items()
          if not name.startswith('JAX_') and name != 'XLA_FLAGS'}
  done = subprocess.run(
      [sys.executable, '-c', CODE], capture_output=True, text=True, check=True,
      env=kept | {'JAX_PLATFORMS': 'cpu'} | environment)
  return json.loads(done.stdout)


def programs(directory, count, size, now):
  directory.mkdir()
  for number in range(count):
    path = directory / f'jit_{number}-cache'
    path.write_bytes(b'x' * size)
    os.utime(path, (now - number, now - number))


def test_another_process_finds_them(tmp_path):
  first, second = (run(XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
  assert first['dir'] == second['dir'] and first['dir'].startswith(
      str(tmp_path / 'jaxret' / 'compiled'))
  assert (first['hits'], second['hits']) == (0, 1)


@pytest.mark.parametrize('environment, kept', [
    ({'JAX_COMPILATION_CACHE_DIR': 'own'}, 'own'),
    ({'JAX_ENABLE_COMPILATION_CACHE': 'false'}, None),
    ({'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}, None)])
def test_what_the_user_has_set_stays(tmp_path, environment, kept):
  """And several virtual devices, whose collectives would wait for ever."""
  if kept:
    environment = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / kept)}
    kept = str(tmp_path / kept)
  assert run(XDG_CACHE_HOME=str(tmp_path / 'x'), **environment)['dir'] == kept
  assert not (tmp_path / 'x').exists()


def test_the_oldest_go_first(tmp_path):
  programs(tmp_path / 'c', 10, 100, time.time() - 100)
  assert program_cache.prune(tmp_path / 'c', 1000) == 0
  assert program_cache.prune(tmp_path / 'c', 800) == 0  # looked at just now
  assert program_cache.prune(tmp_path / 'c', 800, 0) == 4
  assert {path.name for path in (tmp_path / 'c').glob('jit*')} == {
      f'jit_{number}-cache' for number in range(6)}


def test_a_directory_that_cannot_be_made_is_passed_by(tmp_path):
  (tmp_path / 'file').write_text('')
  assert program_cache.prune(tmp_path / 'file' / 'c') == 0


def test_processors_have_programs_of_their_own(monkeypatch):
  here = program_cache.of_machine()
  assert here == program_cache.of_machine() and len(here) == 12
  monkeypatch.setattr('platform.machine', lambda: 'another')
  assert program_cache.of_machine() != here


def test_a_model_that_is_opened_keeps_its_programs(monkeypatch):
  """The library, too, not only the command."""
  calls = []
  monkeypatch.setattr(process_settings, 'keep_compiled_of_user',
                      lambda: calls.append(1))
  jaxret.load(tiny_index.CLIP)
  assert calls
