"""Low-rank adaptation as parameters of their own, beside a frozen base.

Source: Hu et al. 2021 (arXiv 2106.09685), with PEFT's initial values.
"""
import re

import jax
import jax.numpy as jnp

from jaxret import sharding


def init(key, params, targets, rank):
  """The `lora` collection for the kernels that a regex of `targets` names.

  Args:
    key: a JAX key.
    params: the base parameters, a nested dict (arrays or their shapes).
    targets: regexes, matched in full against a kernel's path without
      '/kernel', e.g. r'decoder/layers/attention/[qkvo]'.
    rank: of the factors.

  Returns:
    A nested dict with float32 `a` [..., inputs, rank], uniform as PEFT draws
    it (Kaiming, a = sqrt(5): +-1/sqrt(inputs)), and `b` [..., rank, features],
    zero.

  Raises:
    ValueError: if a regex names no kernel.
  """
  flat = sharding.flatten(params)
  kernels = {path.removesuffix('/kernel'): leaf for path, leaf in flat.items()
             if path.endswith('/kernel')}
  chosen = {}
  for target in targets:
    named = [path for path in kernels if re.fullmatch(target, path)]
    if not named:
      raise ValueError(f'lora target {target!r} names no kernel; there are: '
                       f'{", ".join(sorted(kernels))}')
    chosen.update((path, kernels[path]) for path in named)
  tree = {}
  for index, (path, kernel) in enumerate(sorted(chosen.items())):
    *stack, inputs, features = kernel.shape
    bound = inputs ** -0.5
    tree[f'{path}/a'] = jax.random.uniform(
        jax.random.fold_in(key, index), (*stack, inputs, rank), jnp.float32,
        -bound, bound)
    tree[f'{path}/b'] = jnp.zeros((*stack, rank, features), jnp.float32)
  return sharding.unflatten(tree)


def merge(params, lora, scale):
  """Base parameters with the low-rank terms folded in, in float32."""
  flat = sharding.flatten(params)
  terms = sharding.flatten(lora)
  for path in {name.rpartition('/')[0] for name in terms}:
    flat[f'{path}/kernel'] = fold(
        flat[f'{path}/kernel'], terms[f'{path}/a'], terms[f'{path}/b'], scale)
  return sharding.unflatten(flat)


def fold(kernel, a, b, scale, magnitude=None):
  """A kernel [..., inputs, features] with its low-rank term, in float32.

  a: [..., inputs, rank]; b: [..., rank, features]; scale: a number, or [...].
  magnitude: [..., features], the lengths that the columns of the sum are given
    (DoRA, arXiv 2402.09353); NaN = its own, None = all their own.
  """
  update = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
  wide = kernel.astype(jnp.float32) + jnp.asarray(scale)[..., None, None] * (
      update)
  if magnitude is not None:
    lengths = jnp.linalg.norm(wide, axis=-2, keepdims=True)
    wanted = jnp.asarray(magnitude)[..., None, :]
    wide = jnp.where(jnp.isnan(wanted), wide, wide * (wanted / lengths))
  return wide.astype(kernel.dtype)
