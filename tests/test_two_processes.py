"""Two processes on one machine: with a warm cache, and when one of them dies.
"""
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import tiny_runs

pytestmark = pytest.mark.slow

# Seconds in which a process that is left alone ends: no sign of the other for
# sharding's 20 s, and some for a machine that has other things to do.
LEFT_ALONE_S = 60
# As runs were, when several CPU devices shared a cache of compiled programs.
WITH_CACHE = """
import sys
from jaxret import main, process_settings
process_settings.without_cache_where_it_stops = lambda: None
sys.exit(main.leave(main.main()))
"""


def environment(**more):
  return {**os.environ, 'PYTHON': sys.executable,
          'XLA_FLAGS': '--xla_backend_optimization_level=0', **more}


def test_a_cache_that_two_processes_filled_is_left_alone(tmp_path):
  """Loaded from there, a step's collectives come in another order: an abort.

  The tower is trained and features are extracted, where runs aborted.
  """
  (tmp_path / 'with_cache.py').write_text(WITH_CACHE)
  cache = tmp_path / 'cache'
  flags = [f'--config={tiny_runs.CONFIG}', *tiny_runs.shapes_flags(
      tmp_path / 'shapes', task='extract')]
  def launch(name, **more):
    return subprocess.run(
        [tiny_runs.ROOT / 'launch' / 'local.sh', '2', *flags,
         f'--workdir={tmp_path / name}'],
        cwd=tiny_runs.ROOT, capture_output=True, text=True, timeout=600,
        env=environment(JAX_COMPILATION_CACHE_DIR=str(cache),
                        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0', **more))
  cold = launch('cold')
  assert cold.returncode == 0, cold.stderr[-2000:]
  assert not cache.exists() or not any(cache.iterdir())
  filled = launch(
      'filled', JAXRET_MODULE='with_cache',
      PYTHONPATH=os.pathsep.join([str(tmp_path), str(tiny_runs.ROOT)]))
  assert filled.returncode == 0, filled.stderr[-2000:]
  programs = sorted(cache.iterdir())
  assert programs
  warm = launch('warm')
  assert warm.returncode == 0, warm.stderr[-2000:]
  assert sorted(cache.iterdir()) == programs
  for done in (cold, warm):  # said once, by the first process
    lines = [line for line in done.stderr.splitlines()
             if f'the cache of compiled programs ({cache}) is not used' in line]
    assert len(lines) == 1 and lines[0].startswith('[0]')
  records = 'features/test/records/1.0.0/dataset_info.json'
  assert (tmp_path / 'warm' / records).is_file()


@pytest.mark.parametrize('victim', [0, 1])
def test_started_by_hand_one_does_not_outlive_the_other(tmp_path, victim):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    coordinator = f'127.0.0.1:{free.getsockname()[1]}'
  processes = [subprocess.Popen(
      [sys.executable, '-m', 'tests.tiny_training', tmp_path / 'run',
       tmp_path / 'result.npz', '--epochs=1000000'], cwd=tiny_runs.ROOT,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
      env=environment(
          JAXRET_COORDINATOR=coordinator, JAXRET_NUM_PROCESSES='2',
          JAXRET_PROCESS_ID=str(number), JAX_ENABLE_COMPILATION_CACHE='0'))
               for number in range(2)]
  try:
    deadline = time.time() + 300
    while not any(path.name.isdigit()
                  for path in tmp_path.glob('run/checkpoints/*')):
      assert time.time() < deadline
      assert all(process.poll() is None for process in processes)
      time.sleep(0.1)
    processes[victim].send_signal(signal.SIGKILL)
    start = time.time()
    assert processes[1 - victim].wait(timeout=LEFT_ALONE_S) != 0
    assert time.time() - start < LEFT_ALONE_S
  finally:
    for process in processes:
      process.kill()
      process.wait()
  assert not (tmp_path / 'result.npz').exists()
