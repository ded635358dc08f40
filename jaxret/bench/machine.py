"""What benches share: their flags, the time of runs, and the matmul peak."""
import argparse
import contextlib
import statistics
import sys
import time
from typing import Any, NamedTuple

import jax
from tqdm import tqdm


class Timed(NamedTuple):
  """seconds, cpu_seconds: medians; all_seconds: in order; result: the last."""
  seconds: float
  cpu_seconds: float
  all_seconds: list[float]
  result: Any


def positive(text):
  """The int in a flag; argparse turns the error into one line."""
  if (number := int(text)) < 1:
    raise argparse.ArgumentTypeError(f'got {text}, want at least 1')
  return number


def counts(argv, name, flags):
  """A namespace of numbers from the command line.

  name: of the bench. flags: (name, default, help); a number may be 0 where its
  default is.
  """
  parser = argparse.ArgumentParser(f'jaxret.bench.{name}')
  for flag, default, meaning in flags:
    parser.add_argument(
        f'--{flag}', type=positive if default else int, default=default,
        help=f'{meaning} ({default})')
  return parser.parse_args(argv)


@contextlib.contextmanager
def timed(taken):
  """Appends (seconds, CPU seconds) of what is done inside to a list."""
  start, cpu_start = time.perf_counter(), time.process_time()
  yield
  taken.append((time.perf_counter() - start, time.process_time() - cpu_start))


def log(message):
  """Tells how a bench goes on; standard output is for its result."""
  print(message, file=sys.stderr, flush=True)


def in_turns(runs, rounds, warm_up=True):
  """{name: Timed} of functions that take turns: {name: () -> result}.

  A busy moment of the machine hits all of them. warm_up: run each once first,
  to compile, without counting it.
  """
  found, results = {name: [] for name in runs}, {}
  for number in tqdm(range(-warm_up, rounds), ' and '.join(runs),
                     file=sys.stderr):
    for name, run in runs.items():
      with timed(found[name] if number >= 0 else []):
        results[name] = jax.block_until_ready(run())
  return {name: Timed(*map(statistics.median, zip(*taken)),
                      [seconds for seconds, _ in taken], results[name])
          for name, taken in found.items()}


def matmul_flops_per_s(shapes, dtype, repeats=5):
  """The best measured FLOP/s of [rows, inner] @ [inner, columns], per shape.

  The three sizes of each shape are (rows, inner, columns). Shapes take turns,
  so that a busy moment of the machine hits all of them.
  """
  multiply = jax.jit(lambda a, b: a @ b)
  best = {}
  def random(*shape):  # products of equal numbers are faster on GPUs
    return jax.random.normal(jax.random.key(0), shape).astype(dtype)
  operands = {shape: (random(*shape[:2]), random(*shape[1:]))
              for shape in shapes}
  for pair in operands.values():
    multiply(*pair).block_until_ready()
  for _ in range(repeats):
    for shape, pair in operands.items():
      rows, inner, columns = shape
      flops = 2 * rows * inner * columns
      count = max(1, int(2e10 // flops))
      start = time.perf_counter()
      for _ in range(count):
        out = multiply(*pair)
      out.block_until_ready()
      speed = count * flops / (time.perf_counter() - start)
      best[shape] = max(best.get(shape, 0.0), speed)
  return best


def attention_kernels():
  """The implementations of attention that this backend has, see
  models.attention.ATTENTION."""
  more = {'gpu': ('cudnn',), 'tpu': ('splash',)}
  return 'xla', *more.get(jax.default_backend(), ())
