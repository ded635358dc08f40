"""What fine-tuning trains besides a base: LoRA factors and what goes with them.

`adapter_import` reads them from PEFT's files, `adapter_export` writes them.
"""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import sharding
from jaxret.models import lora as lora_lib
from jaxret.models import names

WEIGHTS = 'adapter_model'
PREFIX = 'base_model.model.'
BLIM = names.DECODER + names.BLIM_HEADS
VISUAL_HEAD = 'visual_head/kernel'
# Our kernels [inputs, features]; an embedding is one of as many inputs as ids.
KERNELS = ('kernel', 'embedding')


class Adapter(NamedTuple):
  """What fine-tuning trains.

  lora: nested dict of `a` [..., inputs, rank] and `b` [..., rank, features],
    float32, the layers stacked. Layers without factors have zeros, and smaller
    ranks are filled up with them: neither changes a number.
  scale: what multiplies a b: one number; or {path of the layer: float32
    [layers], or a number} where they differ; None where the source does not
    say.
  visual_head: [D, Dv], or None.
  modules: nested dict of parameters that take the place of the model's, PEFT's
    modules_to_save among others, or None.
  magnitude: {path: float32 [..., features]} of DoRA, see lora.fold.
  rows: {path of a parameter: (int [n], float32 [n, ...])}, what takes the place
    of some entries of the first axis: layers, or tokens.
  shifts: {path of a bias: what is added to it}.
  """
  lora: dict[str, Any]
  scale: float | dict[str, Any] | None
  visual_head: Any = None
  modules: dict[str, Any] | None = None
  magnitude: dict[str, Any] = {}
  rows: dict[str, Any] = {}
  shifts: dict[str, Any] = {}


def merge(params, adapter):
  """Base parameters {'params': ...} with all that an Adapter holds in them.

  Parts that the model does not have, an output head say, stay out of it.

  Raises:
    ValueError: for what is of another shape than the model's, before anything
      is merged.
  """
  flat = sharding.flatten(params['params'])
  whole = sharding.flatten(adapter.modules or {})
  if adapter.visual_head is not None:
    whole[VISUAL_HEAD] = adapter.visual_head
  factors = _factors(adapter, flat)
  _check_shapes(adapter, flat, whole, factors)
  for path, new in whole.items():
    if path in flat:
      flat[path] = _replaced(flat[path], new)
  for path, (index, new) in adapter.rows.items():
    if path in flat:
      flat[path] = _with_rows(flat[path], index, new)
  for path, (kernel, a, b) in factors.items():
    scale = adapter.scale
    flat[kernel] = _fold(
        flat[kernel], a, b, scale[path] if isinstance(scale, dict) else scale,
        adapter.magnitude.get(path))
  for path, new in adapter.shifts.items():
    if path in flat:
      flat[path] = _shifted(flat[path], new)
  return {'params': sharding.unflatten(flat)}


_fold = jax.jit(lora_lib.fold)


def _replaced(old, new):
  return jax.device_put(np.asarray(new).astype(old.dtype),
                        getattr(old, 'sharding', None))


@jax.jit
def _with_rows(old, index, new):
  return old.at[index].set(new.astype(old.dtype))


@jax.jit
def _shifted(old, new):
  return (old.astype(jnp.float32) + new).astype(old.dtype)


def _factors(adapter, flat):
  """{path: (path of the kernel in `flat`, a, b)} of layers that are there."""
  terms, factors = sharding.flatten(adapter.lora), {}
  for path in sorted({name.rpartition('/')[0] for name in terms}):
    for kernel in (f'{path}/{name}' for name in KERNELS):
      if kernel in flat:
        factors[path] = kernel, terms[f'{path}/a'], terms[f'{path}/b']
  return factors


def _check_shapes(adapter, flat, whole, factors):
  """Nothing is broadcast: what is merged has the shape that it goes to."""
  pairs = [(path, np.shape(new), flat[path].shape) for path, new in
           (*whole.items(), *adapter.shifts.items()) if path in flat]
  for path, (index, new) in adapter.rows.items():
    if path in flat:
      size, *rest = flat[path].shape
      if not 0 <= index.min() <= index.max() < size:
        raise ValueError(f'the adapter replaces the rows {index} of {path}, of '
                         f'which this model has {size}')
      pairs.append((path, np.shape(new), (len(index), *rest)))
  for path, (kernel, a, b) in factors.items():
    *stack, inputs, features = flat[kernel].shape
    rank = a.shape[-1]
    pairs += [(f'{path}/a', a.shape, (*stack, inputs, rank)),
              (f'{path}/b', b.shape, (*stack, rank, features))]
    if path in adapter.magnitude:
      pairs.append((f'{path}, its magnitude', adapter.magnitude[path].shape,
                    (*stack, features)))
  for path, got, want in pairs:
    if got != want:
      raise ValueError(f'the adapter holds {path} of the shape {got}, this '
                       f'model wants {want}: it is an adapter of another model')
  if not (factors or any(path in flat for path in (*whole, *adapter.rows))):
    raise ValueError('the adapter holds nothing that this model reads: it is '
                     'an adapter of another model')
