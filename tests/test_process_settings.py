"""Settings of the process: none on CPU, exact products elsewhere."""
import platform
import subprocess
import sys
import types

import jax
import pytest

from jaxret import process_settings


@pytest.fixture
def precision():
  """What products are taken with; as it was before, afterwards."""
  before = jax.config.jax_default_matmul_precision
  jax.config.update('jax_default_matmul_precision', None)
  yield lambda: jax.config.jax_default_matmul_precision
  jax.config.update('jax_default_matmul_precision', before)


@pytest.mark.parametrize('backend, want', [
    ('cpu', None), ('gpu', 'highest'), ('tpu', 'highest')])
def test_float32_is_float32_on_accelerators(
    backend, want, precision, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  process_settings.exact_float32()
  assert precision() == want


def test_what_the_user_has_set_stays(precision, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  jax.config.update('jax_default_matmul_precision', 'tensorfloat32')
  process_settings.exact_float32()
  assert precision() == 'tensorfloat32'


def test_an_embedder_and_the_command_line_ask_for_it(precision, monkeypatch):
  """Whoever computes with float32 parameters, on any way in."""
  from jaxret import embedder, main, sharding
  from jaxret.methods.blim import score
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  def ask(call, *args):
    jax.config.update('jax_default_matmul_precision', None)
    with pytest.raises((AttributeError, ValueError)):  # given nothing to run
      call(*args)
    return precision()
  assert ask(embedder.Embedder, None, None, None) == 'highest'
  assert ask(score.score_matrix, [], [], '/nowhere') == 'highest'
  jax.config.update('jax_default_matmul_precision', None)
  monkeypatch.setattr(sharding, 'start', lambda *args: None)
  main.start_jax(types.SimpleNamespace(
      coordinator=None, num_processes=None, process_id=None,
      distributed=False))
  assert precision() == 'highest'


FAULTS = """
import resource
import numpy as np
from jaxret import process_settings
process_settings.keep_freed_memory()
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.empty(2300 << 20, np.uint8)[::4096] = 1
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='of glibc')
def test_more_than_two_gigabytes_that_are_freed_are_kept():
  done = subprocess.run([sys.executable, '-c', FAULTS], check=True,
                        capture_output=True, text=True)
  first, second = map(int, done.stdout.split())
  assert first > 500 and second < 50
