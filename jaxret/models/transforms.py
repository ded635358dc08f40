"""How a checkpoint's tensor becomes a parameter, part by part; see `names`."""
import math
from typing import Any, NamedTuple


class Transform(NamedTuple):
  """shape: of the result; read: the part of the result at an index.

  A tensor that it does not go with keeps its shape, which fits no parameter.
  """
  shape: Any
  read: Any


def _patch_shape(shape):
  """Of [D, 3, y, x] or [D, 3, 1, y, x]; MLX's [D, y, x, 3] is another."""
  if len(shape) not in (4, 5) or shape[1] != 3:
    return shape
  return (math.prod(shape[1:]), shape[0])


def _flat_shape(shape):
  """The same, or flat already."""
  if len(shape) == 2:
    return shape[::-1]
  return _patch_shape(shape)


def _read_patch(tensor, index):
  kernel = tensor[index[1],]
  kernel = kernel.transpose(*range(2, kernel.ndim), 1, 0)
  return kernel.reshape(-1, kernel.shape[-1])[index[0]]


def _read_flat(tensor, index):
  kernel = tensor[index[1],]
  return kernel.reshape(len(kernel), -1).T[index[0]]


def _part(number, parts):
  """Of a fused [parts * D, in] or [parts * D] tensor, transposed."""
  def shape(shape):
    if not shape or shape[0] % parts:
      return shape
    return (*shape[1:], shape[0] // parts)
  def read(tensor, index):
    size = tensor.shape[0] // parts
    start, stop, _ = index[-1].indices(size)
    rows = slice(number * size + start, number * size + stop)
    return tensor[(rows, *index[:-1])].T
  return Transform(shape, read)


TRANSFORMS = {
    'copy': Transform(lambda shape: shape, lambda tensor, at: tensor[at]),
    'transpose': Transform(lambda shape: shape[::-1],
                           lambda tensor, at: tensor[at[::-1]].T),
    'patch': Transform(_patch_shape, _read_patch),
    'flatten': Transform(_flat_shape, _read_flat),
    'query': _part(0, 3), 'key': _part(1, 3), 'value': _part(2, 3),
    'first_half': _part(0, 2), 'second_half': _part(1, 2),
}
