"""Parameters as files of a model hold them, by a table of `names`.

The way back from `pretrained`: every tensor is made when it is written, so that
no more than one shard of a large model is in memory.
"""
import json
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import tqdm

from jaxret import sharding
from jaxret.models import layouts, pretrained

SHARD_BYTES = 5 * 10 ** 9  # of a file, as transformers cuts them
FUSED = {'query': (0, 3), 'key': (1, 3), 'value': (2, 3),
         'first_half': (0, 2), 'second_half': (1, 2)}
CONVOLUTIONS = 'patch', 'flatten'


class Tensor(NamedTuple):
  """A tensor that is not made yet; dtype None = as it is made."""
  shape: tuple[int, ...]
  dtype: np.dtype
  make: Callable[[], np.ndarray]


def tensors(table, params, shapes=None):
  """{key of the table: Tensor} of parameters.

  Args:
    table: names.Weights, of more than there is at will.
    params: a nested dict, the layers of a weight with '{layer}' stacked.
    shapes: {key: shape} of convolutions, which are flat in `params`.

  Raises:
    ValueError: for a parameter that is in no table, or a part of a fused
      tensor whose others are not there.
  """
  flat, shapes, parts = sharding.flatten(params), shapes or {}, {}
  unknown = set(flat) - {weight.path for weight in table}
  if unknown:
    raise ValueError(f'these parameters have no tensor: '
                     f'{pretrained.some(unknown)}; want the table of the model '
                     'that they are of')
  for weight in (one for one in table if one.path in flat):
    leaf = flat[weight.path]
    if '{layer}' not in weight.key:
      parts.setdefault(weight.key, []).append((weight, leaf, None))
    for layer in range(len(leaf)) if '{layer}' in weight.key else ():
      parts.setdefault(weight.key.format(layer=layer), []).append(
          (weight, leaf, layer))
  return {key: _tensor(key, found, shapes.get(key))
          for key, found in parts.items()}


def _tensor(key, parts, shape):
  """The Tensor of [(Weight, leaf, layer or None)], several where it is fused.
  """
  kinds = [weight.transform for weight, _, _ in parts]
  if kinds[0] in FUSED:
    count = FUSED[kinds[0]][1]
    parts = sorted(parts, key=lambda part: FUSED[part[0].transform][0])
    if len(parts) != count:
      raise ValueError(f'{key}: got {", ".join(kinds)} of it, want all its '
                       f'{count} parts')
  sizes = [leaf.shape if layer is None else leaf.shape[1:]
           for _, leaf, layer in parts]
  if kinds[0] == 'copy':
    made = tuple(sizes[0])
  else:
    rows = sum(size[-1] for size in sizes)
    made = (rows, *tuple(sizes[0])[:-1][::-1])
  if kinds[0] in CONVOLUTIONS and shape is not None:
    if math.prod(shape) != math.prod(made):
      raise ValueError(f'{key}: got {made}, which does not fill {shape}')
    made = tuple(shape)
  def make():
    found = [_turned(weight.transform, _host(leaf, layer), made)
             for weight, leaf, layer in parts]
    return np.ascontiguousarray(
        found[0] if len(found) == 1 else np.concatenate(found))
  return Tensor(made, np.dtype(parts[0][1].dtype), make)


def _host(leaf, layer):
  return sharding.to_host(leaf if layer is None else leaf[layer])


def _turned(transform, array, shape):
  """A parameter as the file has it; see models.transforms for the way here."""
  if transform == 'copy':
    return array
  turned = array.T
  if transform == 'patch' and len(shape) > 2:
    # [D, (y x 3)] -> [D, y, x, 3] -> [D, 3, y, x]
    *others, y, x = shape[2:]
    turned = turned.reshape(shape[0], *others, y, x, shape[1])
    return np.moveaxis(turned, -1, 1)
  return turned.reshape(shape) if transform in CONVOLUTIONS else turned


def filled(base, table, found):
  """{name in a checkpoint: Tensor}: `found` under its names, else its own.

  Args:
    base: a Checkpoint in any layout, whose names are kept.
    table: of `found`; what of it is no part of `found`, layers that do not run
      or an output head say, stays as it is; what is in no table or under its
      root 'unread' is left out.
    found: as `tensors` gives it.

  Raises:
    ValueError: for a tensor that the checkpoint has no place for.
  """
  known = layouts.table_names(base.tensors, table)
  unread = {weight.key for weight in table
            if weight.path.partition('/')[0] == 'unread'}
  out, used = {}, set()
  for name, tensor in base.tensors.items():
    key = known.get(name)
    if key in found:
      used.add(key)
      out[name] = found[key]
    elif key is not None and key not in unread:
      out[name] = _kept(tensor)
  lost = set(found) - used
  if lost:
    raise ValueError(f'{base.source}: it has no place for '
                     f'{pretrained.some(lost)}')
  return out


def by_table(base, table):
  """{key of the table: Tensor} of what a checkpoint has of it, as it is."""
  return {key: _kept(base.tensors[name]) for name, key in
          layouts.table_names(base.tensors, table).items()}


def _kept(tensor):
  return Tensor(tensor.shape, tensor.dtype, lambda: tensor[:])


def save(directory, found, stem='model', dtype=None, shard_bytes=SHARD_BYTES):
  """Writes {name: Tensor} as transformers does, in shards where they are many.

  dtype: of what is written; None = as it is.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  shards, room = [], 0
  for name, tensor in found.items():
    size = math.prod(tensor.shape) * np.dtype(dtype or tensor.dtype).itemsize
    if not shards or size > room:
      shards.append([])
      room = shard_bytes
    shards[-1].append(name)
    room -= size
  single = len(shards) == 1
  places, total = {}, 0
  for number, names in enumerate(shards, 1):
    file = f'{stem}.safetensors' if single else (
        f'{stem}-{number:05}-of-{len(shards):05}.safetensors')
    arrays = {name: _cast(found[name].make(), dtype) for name in tqdm.tqdm(
        names, f'writing {file}', disable=None)}
    total += sum(array.nbytes for array in arrays.values())
    safetensors.numpy.save_file(arrays, directory / file, {'format': 'pt'})
    places |= dict.fromkeys(names, file)
  if not single:
    (directory / f'{stem}.safetensors.index.json').write_text(json.dumps({
        'metadata': {'total_size': total}, 'weight_map': places},
        indent=2, sort_keys=True) + '\n')


def _cast(array, dtype):
  return np.ascontiguousarray(
      array if dtype is None else array.astype(dtype, copy=False))
