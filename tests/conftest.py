"""Settings of every test: eight virtual CPU devices, and the golden folder."""
import os
import pathlib
import sys
import tempfile

import pytest

# All must be set before JAX is imported; what the user has set stays.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tests compile for longer than they compute: half as long without optimizing.
for flag, value in (('--xla_force_host_platform_device_count', 8),
                    ('--xla_backend_optimization_level', 0)):
  if flag not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = (
        f'{os.environ.get("XLA_FLAGS", "")} {flag}={value}'.strip())

# Programs that one test has compiled, another or its processes take from here.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  _CACHE = tempfile.TemporaryDirectory(prefix='jaxret-tests-')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def _memory_maps():
  """(of this process, what the system allows); none where it does not tell."""
  try:
    return (pathlib.Path('/proc/self/maps').read_bytes().count(b'\n'),
            int(pathlib.Path('/proc/sys/vm/max_map_count').read_text()))
  except OSError:
    return 0, 1


@pytest.fixture(autouse=True)
def few_programs():
  """Drops compiled programs before the process may have no more of them.

  Each keeps a few memory maps; where the system allows no more of these, the
  compiler dies of a segmentation fault.
  """
  yield
  used, allowed = _memory_maps()
  if used > allowed / 3:
    import jax
    jax.clear_caches()


@pytest.fixture(autouse=True)
def cache_of_programs():
  """Used again after a run, which does without: see process_settings."""
  yield
  if 'jax' in sys.modules:
    import jax
    if not jax.config.jax_enable_compilation_cache:
      from jax.experimental.compilation_cache import compilation_cache
      jax.config.update('jax_enable_compilation_cache', True)
      compilation_cache.reset_cache()


@pytest.fixture(scope='module')
def one_device():
  """One of the eight virtual devices, which is quicker to compile for.

  What is compiled for one alone may also be taken from the cache.
  """
  import jax

  from jaxret import process_settings, sharding
  def make_mesh(shape=None, devices=None, make=sharding.make_mesh):
    return make(shape, jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, 'make_mesh', make_mesh)
    patch.setattr(
        process_settings, 'without_cache_where_it_stops', lambda: None)
    yield


def pytest_addoption(parser):
  parser.addoption(
      '--golden', metavar='DIR', type=pathlib.Path,
      default=pathlib.Path(__file__).parent / 'golden',
      help='folder with one folder of golden data per system '
           '(blim, unite, mm_embed, leccr, qwen25_vl, ...); '
           'default: tests/golden')
