"""Pretrained weights: safetensors on to devices, slice by slice.

A tensor is never read whole where a device needs a part of it, and PyTorch is
not involved. Every name is checked both ways against the tables of `names`.
"""
import itertools
import json
import math
import pathlib
import re
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
import tqdm

from jaxret import sharding
from jaxret.models import names

DTYPES = {'F64': np.float64, 'F32': np.float32, 'F16': np.float16,
          'BF16': ml_dtypes.bfloat16, 'I64': np.int64, 'I32': np.int32,
          'BOOL': np.bool_}

# Names that weights get once they are quantized: GPTQ and AWQ, bitsandbytes,
# compressed-tensors, fine-grained FP8.
QUANTIZED = re.compile(
    r'(.*\.)?(qweight|qzeros|g_idx|SCB|(weight|kernel)(\.(absmax|quant_map|'
    r'nested_.*|quant_state\..*)|_(packed|shape|scale|scale_inv|zero_point|'
    r'format)))')
STRIP = 512  # columns


class FileTensor:
  """A tensor in a safetensors file; indexing it reads that part alone.

  name: of the file and of the tensor in it, for messages.
  """

  def __init__(self, path, file, key):
    self.name = f'{path}: {key}'
    self._slice = file.get_slice(key)
    self.shape = tuple(self._slice.get_shape())
    kind = self._slice.get_dtype()
    if kind not in DTYPES or QUANTIZED.fullmatch(key):
      raise ValueError(
          f'{self.name} ({kind}): the weights are quantized, want them in '
          'bfloat16, float16 or float32: take the model that was quantized, or '
          'dequantize and save it again')
    self.dtype = np.dtype(DTYPES[kind])

  def __getitem__(self, index):
    return self._slice[index]


class Checkpoint(NamedTuple):
  """Tensors by name: FileTensors, or arrays that are in memory already."""
  source: str
  tensors: dict[str, Any]


def find_model(name):
  """The directory of a model: `name` itself, or a snapshot from the hub.

  Raises:
    ValueError: if it is neither, or the hub does not answer.
  """
  path = pathlib.Path(name).expanduser()
  if path.exists():
    return path
  if str(name).startswith(('/', '.', '~')) or str(name).count('/') > 1:
    raise ValueError(f'model {name}: no such directory; name one that holds '
                     'config.json and model.safetensors, or a hub model')
  import huggingface_hub
  try:
    return pathlib.Path(huggingface_hub.snapshot_download(
        str(name), allow_patterns=['*.json', '*.safetensors', '*.txt']))
  except Exception as error:  # of many kinds: offline, no such model, no space
    reason = f'{type(error).__name__}: {error}'.splitlines()[0]
    raise ValueError(
        f'model {name}: no such directory, and the hub gave nothing '
        f'({reason}); download it where there is a network, then name its '
        'directory') from error


def open_checkpoint(name, stem='model'):
  """Opens a directory, hub model or single file; reads only the headers.

  Raises:
    ValueError: if there is no `stem`.safetensors, nor its index with all the
      shards that it lists, or a file is damaged.
  """
  path = find_model(name)
  if path.is_file():
    return Checkpoint(str(path), _headers(path))
  index = path / f'{stem}.safetensors.index.json'
  single = path / f'{stem}.safetensors'
  if index.exists():
    shards = sorted(set(json.loads(index.read_text())['weight_map'].values()))
  elif single.exists():
    shards = [single.name]
  else:
    raise ValueError(f'{path}: got no {single.name} and no {index.name}; want '
                     'safetensors: convert other formats first')
  tensors = {}
  for shard in shards:
    if not (path / shard).exists():
      raise ValueError(f'{path}: {index.name} lists {shard}, which is missing; '
                       'download the model again')
    tensors.update(_headers(path / shard))
  return Checkpoint(str(path), tensors)


def load(checkpoint, table, abstract=None, shardings=None):
  """Fills parameters from a checkpoint; each device reads its own slice.

  Args:
    checkpoint: a Checkpoint.
    table: a tuple of `names.Weight`, covering all that the checkpoint holds.
    abstract: the wanted parameters, a nested dict of things with shape and
      dtype. Parts of the table under another root (`vision`, say) stay unread.
      None takes all there is, as it is.
    shardings: a nested dict like `abstract` of shardings; None puts everything
      on the first device.

  Returns:
    (params, missing): a nested dict of jax.Arrays, and the paths of optional
    weights that the checkpoint lacks, which are not in `params`.

  Raises:
    ValueError: naming tensors left over, parameters not filled, shapes that
      differ, or a tensor with NaN or infinity.
  """
  plan, missing = _plan(checkpoint, table, abstract)
  places = sharding.flatten(shardings or {})
  default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  flat = {}
  for path, source in tqdm.tqdm(plan.items(), 'weights', disable=None):
    flat[path] = jax.make_array_from_callback(
        source.shape, places.get(path, default), source.reader())
  return sharding.unflatten(flat), missing


class _Source(NamedTuple):
  """Where one parameter comes from, and its shape and dtype once read.

  tensors: {name for messages: tensor}, one per layer if there are layers.
  """
  weight: names.Weight
  tensors: dict[str, Any]
  shape: tuple[int, ...]
  dtype: Any

  def reader(self):
    """A callback index -> array that reads each index once."""
    parts = {}
    def read(index):
      key = str(index)
      if key not in parts:
        parts[key] = self.read(index)
      return parts[key]
    return read

  def read(self, index):
    """The part of the parameter at `index`, a tuple of slices."""
    transform = TRANSFORMS[self.weight.transform].read
    out = np.empty([len(range(*part.indices(size)))
                    for part, size in zip(index, self.shape)], self.dtype)
    slots, chosen = [out], list(self.tensors.items())
    if _stacked(self.weight):
      slots, chosen, index = out, chosen[index[0]], index[1:]
    for slot, (name, tensor) in zip(slots, chosen):
      _fill(slot, transform(tensor, index), name)
    return out


def _fill(out, part, name):
  """Copies and casts in strips: a large transpose is three times as fast."""
  out, part = np.atleast_1d(out, part)
  for start in range(0, part.shape[-1], STRIP):
    strip = slice(start, start + STRIP)
    if not _finite(part[..., strip]):
      raise ValueError(f'{name} holds NaN or infinity; the file is damaged or '
                       'its training diverged: take another')
    out[..., strip] = part[..., strip]


def _finite(array):
  """Whether no number is NaN or infinite, whose exponents are all ones."""
  if array.dtype.kind in 'biu':
    return True
  infinity = np.array(np.inf, array.dtype).view(f'u{array.dtype.itemsize}')
  return not (array.view(infinity.dtype) & infinity == infinity).any()


class _Transform(NamedTuple):
  """shape: of the result; read: the part of the result at an index."""
  shape: Any
  read: Any


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
    return (*shape[1:], shape[0] // parts)
  def read(tensor, index):
    size = tensor.shape[0] // parts
    start, stop, _ = index[-1].indices(size)
    rows = slice(number * size + start, number * size + stop)
    return tensor[(rows, *index[:-1])].T
  return _Transform(shape, read)


TRANSFORMS = {
    'copy': _Transform(lambda shape: shape, lambda tensor, at: tensor[at]),
    'transpose': _Transform(lambda shape: shape[::-1],
                            lambda tensor, at: tensor[at[::-1]].T),
    'patch': _Transform(lambda shape: (math.prod(shape[1:]), shape[0]),
                        _read_patch),
    'flatten': _Transform(lambda shape: (math.prod(shape[1:]), shape[0]),
                          _read_flat),
    'query': _part(0, 3), 'key': _part(1, 3), 'value': _part(2, 3),
    'first_half': _part(0, 2), 'second_half': _part(1, 2),
}


def _stacked(weight):
  return '{layer}' in weight.key


def _plan(checkpoint, table, abstract):
  """({path: _Source}, missing optional paths), checked both ways."""
  wanted = abstract and sharding.flatten(abstract)
  weights = {weight.path: weight for weight in table}
  unknown = set(wanted or ()) - set(weights)
  if unknown:
    raise ValueError(f'{checkpoint.source}: no known tensor for the parameters '
                     f'{_some(unknown)}: is this checkpoint of another model?')
  plan, missing, unfilled, used = {}, [], [], set()
  for path in wanted or weights:
    weight, want = weights[path], wanted and wanted[path]
    keys = _keys(weight, checkpoint.tensors, want)
    absent = [key for key in keys if key not in checkpoint.tensors]
    if not absent:
      used.update(keys)
      plan[path] = _source(checkpoint, weight, keys, want)
    elif weight.optional and len(absent) == len(keys):
      missing.append(path)
    else:
      unfilled += absent
  if unfilled:
    raise ValueError(
        f'{checkpoint.source}: these tensors are missing: {_some(unfilled)}; '
        'want every tensor of the model: is the download complete?')
  _check_leftover(checkpoint, table, wanted, plan, used)
  return plan, tuple(missing)


def _keys(weight, tensors, want):
  if not _stacked(weight):
    return [weight.key]
  if want is not None:
    return [weight.key.format(layer=i) for i in range(want.shape[0])]
  every = (weight.key.format(layer=i) for i in itertools.count())
  found = list(itertools.takewhile(tensors.__contains__, every))
  return found or [weight.key.format(layer=0)]


def _source(checkpoint, weight, keys, want):
  found = [(key, checkpoint.tensors[key]) for key in keys]
  tensors = {getattr(tensor, 'name', f'{checkpoint.source}: {key}'): tensor
             for key, tensor in found}
  transform, first = TRANSFORMS[weight.transform], found[0][1]
  stack = (len(keys),) if _stacked(weight) else ()
  shapes = {(*stack, *transform.shape(tensor.shape))
            for tensor in tensors.values()}
  shape = shapes.pop() if want is None else tuple(want.shape)
  if shapes - {shape}:
    raise ValueError(
        f'{checkpoint.source}: {keys[0]} has shape {first.shape}, which '
        f'makes {min(shapes - {shape})}; want {shape} for {weight.path}: '
        'compare config.json with the model settings')
  dtype = first.dtype if want is None else want.dtype
  return _Source(weight, tensors, shape, np.dtype(dtype))


def _check_leftover(checkpoint, table, wanted, plan, used):
  """Every tensor is used, ignored by table, or of a part not asked for."""
  may_stay = [pattern for pattern, _ in names.IGNORED]
  roots = {path.partition('/')[0] for path in wanted or ()}
  for weight in table:
    pattern = re.escape(weight.key).replace(r'\{layer\}', '{layer}')
    if wanted is not None and weight.path.partition('/')[0] not in roots:
      may_stay.append(pattern.replace('{layer}', r'\d+'))
    elif weight.spare_layers and weight.path in plan:
      first = len(plan[weight.path].tensors)
      may_stay += [pattern.replace('{layer}', str(first + i))
                   for i in range(weight.spare_layers)]
  may_stay = re.compile('|'.join(f'(?:{pattern})' for pattern in may_stay))
  left = [key for key in checkpoint.tensors
          if key not in used and not may_stay.fullmatch(key)]
  if left:
    raise ValueError(
        f'{checkpoint.source}: these tensors fit no parameter: {_some(left)}; '
        'want the tensors of the model alone: is it another model or size?')


def _headers(path):
  try:
    file = safetensors.safe_open(path, 'np')
  except safetensors.SafetensorError as error:
    raise ValueError(
        f'{path}: not a whole safetensors file ({error}); download it again'
    ) from error
  return {key: FileTensor(path, file, key) for key in file.keys()}


def _some(keys, shown=3):
  keys = sorted(keys)
  more = f' and {len(keys) - shown} more' if len(keys) > shown else ''
  return ', '.join(keys[:shown]) + more
