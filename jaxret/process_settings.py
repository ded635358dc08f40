"""Settings of the process itself: faster on CPU, exact on accelerators."""
import contextlib
import ctypes
import functools
import os
import pathlib
import sys

from absl import logging

from jaxret import program_cache

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory():
  """Lets glibc keep what is freed, instead of returning it to the system.

  Every compiled CPU program takes its temporary memory anew; pages that come
  fresh from the system each time cost a tenth of the time and more. All threads
  share one heap: those of their own are given back when they are empty. Does
  nothing where the C library is another one.
  """
  if not sys.platform.startswith('linux'):
    return
  try:
    mallopt = ctypes.CDLL('libc.so.6').mallopt
  except (OSError, AttributeError):
    return
  mallopt(_M_ARENA_MAX, 1)
  mallopt(_M_MMAP_MAX, 0)
  mallopt(_M_TRIM_THRESHOLD, -1)  # never; a number cannot be above 2 GiB


def keep_compiled(directory):
  """Keeps compiled programs in a directory, where they are found again.

  For runs that train several models of one shape, and for reruns. Where the
  user has named a directory (JAX_COMPILATION_CACHE_DIR), that one is used.
  To be called before anything is compiled.
  """
  import jax  # slow to import
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(directory))


def keep_compiled_of_user():
  """Keeps all compiled programs in the user's own cache, for the next call.

  In JAX_COMPILATION_CACHE_DIR where that is set, else where program_cache keeps
  them small. Not where JAX's cache is switched off, nor for several CPU
  devices, whose programs must be compiled anew. To be called before anything is
  compiled; a second call does nothing.
  """
  import jax
  if not jax.config.jax_compilation_cache_dir:
    if not jax.config.jax_enable_compilation_cache or (
        jax.default_backend() == 'cpu' and jax.device_count() > 1):
      return
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache')
    directory = cache.expanduser() / 'jaxret' / 'compiled' / (
        program_cache.of_machine())
    program_cache.prune(directory)
    keep_compiled(directory)
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def without_cache_where_it_stops():
  """Compiles anew where a run has several CPU devices.

  A program that is loaded from JAX's persistent cache orders its collectives
  otherwise than the one that was compiled: among several processes gloo aborts,
  and the devices of one process, which share a few threads, may wait for each
  other for ever.
  """
  import jax
  from jax.experimental.compilation_cache import compilation_cache
  if (jax.device_count() == 1 or jax.default_backend() != 'cpu'
      or not jax.config.jax_enable_compilation_cache):
    return
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()  # else what was first asked for stays
  if jax.process_index() == 0 and jax.config.jax_compilation_cache_dir:
    logging.info('several CPU devices: the cache of compiled programs (%s) '
                 'is not used', jax.config.jax_compilation_cache_dir)


@contextlib.contextmanager
def without_cache():
  """Neither takes compiled programs from the cache nor keeps them there.

  For devices that are not at hand: JAX cannot load such a program again.
  """
  import jax
  from jax.experimental.compilation_cache import compilation_cache
  before = jax.config.jax_enable_compilation_cache
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update('jax_enable_compilation_cache', before)
    compilation_cache.reset_cache()


def exact_float32():
  """Products of float32 numbers in float32 on accelerators, too.

  Where nothing is said, GPUs round the operands to TF32 and TPUs to bfloat16:
  log-likelihoods of a tiny model are then off by 1e-3 on an H100, and by 1e-6
  with this (`bench.device`, part `equal`). It concerns no product of bfloat16.
  What the user has set (JAX_DEFAULT_MATMUL_PRECISION) stays.
  To be called when the devices may be asked for.
  """
  import jax
  if (jax.default_backend() != 'cpu'
      and jax.config.jax_default_matmul_precision is None):
    jax.config.update('jax_default_matmul_precision', 'highest')


@functools.cache
def without_fused_products():
  """Compiler options: on CPU, products as Eigen does them; none elsewhere.

  By default XLA hands products to another library (YNNPACK). That is faster
  where one operand stays in place, as in scoring and in steps of a decoder,
  and slower in whole towers of small layers. None either where the compiler
  knows no such option.
  """
  import jax
  options = {'xla_cpu_experimental_ynn_fusion_type': ''}
  if jax.default_backend() != 'cpu':
    return {}
  try:
    jax.jit(lambda: 0, compiler_options=options).lower().compile()
  except jax.errors.JaxRuntimeError:
    return {}
  return options
