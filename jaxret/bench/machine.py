"""What the machine can do: its measured matmul peak."""
import time

import jax
import jax.numpy as jnp


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
