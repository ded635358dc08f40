"""What the machine can do: its measured matmul peak; the time of runs."""
import statistics
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm


class Timed(NamedTuple):
  """seconds, cpu_seconds: medians; all_seconds: in order; result: the last."""
  seconds: float
  cpu_seconds: float
  all_seconds: list[float]
  result: Any


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
      start, cpu_start = time.perf_counter(), time.process_time()
      results[name] = jax.block_until_ready(run())
      if number >= 0:
        found[name].append((time.perf_counter() - start,
                            time.process_time() - cpu_start))
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
  operands = {shape: (jnp.ones(shape[:2], dtype), jnp.ones(shape[1:], dtype))
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
