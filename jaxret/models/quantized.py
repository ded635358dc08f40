"""Frozen weights in 8 bits, multiplied in 8 bits, by qwix (extra `quantized`).

A kernel [inputs, features] has a scale for each feature, what it meets one for
each row, found anew in each product (absmax); sums are int32, of 'fp8' float32.
Layers alone: tokens' embeddings, norms, LoRA, and the head, whose logits stay
float32, are as they were.
"""
import functools
import re

import jax
import jax.numpy as jnp

from jaxret import sharding

KINDS = {'int8': jnp.int8, 'fp8': jnp.float8_e4m3fn}
# Kernels of stacked layers that Dense multiplies.
KERNELS = r'params/(decoder/layers|vision/blocks)/.*/kernel'


def library():
  """qwix; raises ValueError where it is not installed."""
  try:
    import qwix
  except ImportError:
    raise ValueError("quantized weights want qwix: pip install -e "
                     "'.[quantized]'") from None
  return qwix


def quantize(variables, kind):
  """{'params': the others, 'quantized': {..: {'codes', 'scale'}}, ...}.

  variables: of a model, at least {'params': ...}, LoRA merged or not.

  Raises ValueError for another kind than those of KINDS, a model that has no
  such kernels, or where qwix is not installed.
  """
  if kind not in KINDS:
    raise ValueError(f'quantize: got {kind!r}, want one of {", ".join(KINDS)}')
  flat = sharding.flatten(variables)
  chosen = {path for path in flat if re.fullmatch(KERNELS, path)}
  if not chosen:
    raise ValueError('quantize: the model has no layers of a decoder or of a '
                     "vision tower as Qwen's: leave quantize out")
  # A kernel at a time: float32 of all of them may not have room beside them.
  for path in sorted(chosen):
    place = path.replace('params/', 'quantized/', 1).removesuffix('/kernel')
    codes, scale = _codes(flat.pop(path), KINDS[kind])
    flat |= {f'{place}/codes': codes, f'{place}/scale': scale}
  return sharding.unflatten(flat)


@functools.partial(jax.jit, static_argnums=1)
def _codes(kernel, dtype):
  axes = [axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2]
  made = library().quantize(
      kernel.astype(jnp.float32), dtype, channelwise_axes=axes)
  return made.qvalue, made.scale


def product(x, codes, scale):
  """x [..., D] times the kernel [D, F] of these, in the type of x.

  codes: [D, F]; scale: float32 [1, F].
  """
  qwix = library()
  kernel = qwix.QArray(codes, scale)
  rows = qwix.quantize(x.astype(jnp.float32), codes.dtype,
                       channelwise_axes=list(range(x.ndim - 1)))
  y = qwix.dot_general(rows, kernel, (((x.ndim - 1,), (0,)), ((), ())),
                       preferred_element_type=jnp.float32)
  return y.astype(x.dtype)
