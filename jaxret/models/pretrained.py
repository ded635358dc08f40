"""Pretrained weights: safetensors on to devices, slice by slice.

A tensor is never read whole where a device needs a part of it, and PyTorch is
not involved. Every name is checked both ways against the tables of `names`, in
whatever layout of `layouts` a file has them.
"""
import itertools
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

from jaxret import foreign_files, sharding
from jaxret.models import layouts, names
from jaxret.models.layouts import Checkpoint
from jaxret.models.transforms import TRANSFORMS

# Of parameters; tensors of other types may be there where nothing reads them.
DTYPES = {'F64': np.float64, 'F32': np.float32, 'F16': np.float16,
          'BF16': ml_dtypes.bfloat16}
# Names that weights get once they are quantized: GPTQ and AWQ, bitsandbytes,
# compressed-tensors, fine-grained FP8.
QUANTIZED = re.compile(
    r'(.*\.)?(qweight|qzeros|g_idx|SCB|(weight|kernel)(\.(absmax|quant_map|'
    r'nested_.*|quant_state\..*)|_(packed|shape|scale|scale_inv|zero_point|'
    r'format)))')
STRIP = 512  # columns


class FileTensor:
  """A tensor in a safetensors file; indexing it reads that part alone.

  name: of the file and of the tensor in it, for messages. kind: its type as
  the file has it, 'BF16' say.
  """

  def __init__(self, path, file, key):
    self.name = f'{path}: {key}'
    self._slice = file.get_slice(key)
    self.shape = tuple(self._slice.get_shape())
    self.kind = self._slice.get_dtype()

  @property
  def dtype(self):
    """Raises ValueError for a type that no parameter is read from."""
    if self.kind not in DTYPES:
      raise ValueError(
          f'{self.name} is of type {self.kind}, want one of '
          f'{", ".join(DTYPES)}: a parameter is none of whole numbers')
    return np.dtype(DTYPES[self.kind])

  def __getitem__(self, index):
    return self._slice[index]


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
        str(name), allow_patterns=[
            '*.json', '*.jinja', '*.safetensors', '*.txt']))
  except Exception as error:  # of many kinds: offline, no such model, no space
    reason = f'{type(error).__name__}: {error}'.splitlines()[0]
    raise ValueError(
        f'model {name}: no such directory, and the hub gave nothing '
        f'({reason}); download it where there is a network, then name its '
        'directory') from error


def open_checkpoint(name, stem='model'):
  """Opens a directory, hub model or single file; reads only the headers.

  As transformers, `stem`.safetensors comes before the index of shards where
  both are there.

  Raises:
    ValueError: if there is no `stem`.safetensors, nor its index with all the
      shards that it lists, or a file is damaged, or the directory is of an
      adapter and a model was wanted.
  """
  path = find_model(name)
  if path.is_file():
    return Checkpoint(str(path), _headers(path))
  if stem == 'model':
    foreign_files.refuse_adapter(name, path)
  index = path / f'{stem}.safetensors.index.json'
  single = path / f'{stem}.safetensors'
  if single.exists():
    return Checkpoint(str(path), _headers(single))
  if not index.exists():
    foreign_files.refuse_without_weights(name, path, stem)
  return Checkpoint(str(path), _shards(index))


def _shards(index):
  """{name: FileTensor} of all shards that an index lists."""
  places = foreign_files.read_object(index).get('weight_map')
  if not isinstance(places, dict) or not all(
      isinstance(shard, str) and pathlib.PurePath(shard).name == shard
      for shard in places.values()):
    raise ValueError(f'{index}: want a weight_map {{name: file beside the '
                     'index}; download it again')
  tensors = {}
  for shard in sorted(set(places.values())):
    path = index.with_name(shard)
    if not path.exists():
      raise ValueError(
          f'{index.parent}: {index.name} lists {shard}, which is missing; '
          'download the model again')
    found = _headers(path)
    lost = [key for key, place in places.items()
            if place == shard and key not in found]
    if lost:
      raise ValueError(
          f'{path}: lacks {some(lost)}, which {index.name} says it holds: it '
          'is of another model or version; download it again')
    tensors |= {key: tensor for key, tensor in found.items()
                if places.get(key, shard) == shard}
  return tensors


def load(checkpoint, table, abstract=None, shardings=None, tied=False,
         generates=False):
  """Fills parameters from a checkpoint; each device reads its own slice.

  Args:
    checkpoint: a Checkpoint, in any layout.
    table: a tuple of `names.Weight`, covering all that the checkpoint holds.
    abstract: the wanted parameters, a nested dict of things with shape and
      dtype. Parts of the table under another root (`vision`, say) and output
      heads that are not among them stay unread. None takes all there is, as it
      is.
    shardings: a nested dict like `abstract` of shardings; None puts everything
      on the first device.
    tied: whether the output head is the embedding; either of the two will do.
    generates: whether the head is used.

  Returns:
    (params, missing): a nested dict of jax.Arrays, and the paths of optional
    weights that the checkpoint lacks, which are not in `params`.

  Raises:
    ValueError: naming tensors left over, parameters not filled, shapes that
      differ, tensors that are there twice and differ, or a tensor with NaN or
      infinity.
  """
  found = layouts.fitted(checkpoint, table)
  if tied:
    found = _tied(found, table, generates)
  plan, missing = _plan(found, table, abstract, checkpoint.tensors)
  places = sharding.flatten(shardings or {})
  default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  flat = {}
  for path, source in tqdm.tqdm(plan.items(), 'weights', disable=None):
    flat[path] = jax.make_array_from_callback(
        source.shape, places.get(path, default), source.reader())
  return sharding.unflatten(flat), missing


def _tied(checkpoint, table, generates):
  """The checkpoint whose embedding is there, from its head if need be.

  Raises ValueError for two that differ where the head is used: transformers
  4.x ties them all the same, 5 does not.
  """
  tensors = dict(checkpoint.tensors)
  for key, other in ((weight.key, weight.tied_to) for weight in table
                     if weight.tied_to and weight.key in tensors):
    if other not in tensors:
      tensors[other] = tensors.pop(key)
    elif generates and not _equal(tensors[key], tensors[other]):
      raise ValueError(
          f'{checkpoint.source}: {key} is not {other}, though config.json ties '
          'them (tie_word_embeddings), and versions of transformers differ in '
          'which is used: set it to false if the head was trained, else remove '
          f'{key}')
  return checkpoint._replace(tensors=tensors)


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


def _stacked(weight):
  return '{layer}' in weight.key


def _plan(checkpoint, table, abstract, given):
  """({path: _Source}, missing optional paths), checked both ways.

  given: the tensors by the names that the file has, for messages.
  """
  wanted = abstract and sharding.flatten(abstract)
  weights = {weight.path: weight for weight in table}
  unknown = set(wanted or ()) - set(weights)
  if unknown:
    raise ValueError(f'{checkpoint.source}: no known tensor for the parameters '
                     f'{some(unknown)}: is this checkpoint of another model?')
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
    _refuse_unfilled(checkpoint.source, unfilled, given)
  _check_leftover(checkpoint, table, wanted, plan, used)
  _check_twins(checkpoint, used)
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
  dtypes = [tensor.dtype for tensor in tensors.values()]  # all can be read
  transform = TRANSFORMS[weight.transform]
  stack = (len(keys),) if _stacked(weight) else ()
  shapes = [(*stack, *transform.shape(tensor.shape))
            for tensor in tensors.values()]
  shape = shapes[0] if want is None else tuple(want.shape)
  for (key, tensor), made in zip(found, shapes):
    if made != shape and not math.prod(tensor.shape):
      raise ValueError(
          f"{checkpoint.source}: {key} is empty, as DeepSpeed's ZeRO-3 leaves "
          f'what it has not gathered; {foreign_files.ZERO}')
    if made != shape:
      raise ValueError(
          f'{checkpoint.source}: {key} has shape {tensor.shape}, which '
          f'makes {made}; want {shape} for {weight.path}: '
          'compare config.json with the model settings')
  dtype = dtypes[0] if want is None else want.dtype
  return _Source(weight, tensors, shape, np.dtype(dtype))


def _refuse_unfilled(source, unfilled, given):
  """Raises ValueError for missing tensors: a layout's, a part's, or a few."""
  layout = layouts.describe(given)
  got = f'got a {layout}' if layout else f'got {some(given)}'
  parts = layouts.absent_parts(unfilled, given)
  without = ''.join(f', no {words} ({start}*)' for words, start in parts)
  want = 'every tensor that is read: compare config.json with the file'
  if parts == [layouts.HEAD]:
    want = ('the model with its head, ...ForConditionalGeneration, or '
            'tie_word_embeddings in config.json if the embedding is the head')
  raise ValueError(f'{source}: these tensors are missing: {some(unfilled)}; '
                   f'{got}{without}; want {want}')


def _check_leftover(checkpoint, table, wanted, plan, used):
  """Every tensor is used, ignored by table, or of a part not asked for."""
  may_stay = [pattern for pattern, _ in names.IGNORED]
  roots = {path.partition('/')[0] for path in wanted or ()}
  for weight in table:
    pattern = re.escape(weight.key).replace(r'\{layer\}', '{layer}')
    if wanted is not None and (
        weight.path.partition('/')[0] not in roots or weight.tied_to):
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
        f'{checkpoint.source}: these tensors fit no parameter: {some(left)}; '
        'want the tensors of the model alone: is it another model or size?')


def _check_twins(checkpoint, used):
  """Raises ValueError for a tensor with several names of which one differs."""
  for key in sorted(used & set(checkpoint.twins)):
    (first, tensor), *others = checkpoint.twins[key]
    for name, other in others:
      if not _equal(tensor, other):
        raise ValueError(
            f'{checkpoint.source}: {first} and {name} are the same parameter '
            f'({key}) and differ; want one of them: remove the other')


def _equal(one, other):
  """Whether two tensors are the same to the bit; they are read whole."""
  if one.shape != other.shape or one.dtype != other.dtype:
    return False
  return np.array_equal(one[:], other[:]) if one.shape else one[()] == other[()]


def _headers(path):
  if not path.is_file():  # a pipe would be waited for
    raise foreign_files.refusal(path, 'not a file')
  try:
    file = safetensors.safe_open(path, 'np')
  except (OSError, safetensors.SafetensorError) as error:
    raise foreign_files.refusal(
        path, f'not a whole safetensors file ({error})') from error
  tensors = {key: FileTensor(path, file, key) for key in file.keys()}
  for key, tensor in tensors.items():
    small = tensor.kind.startswith('F') and tensor.kind not in DTYPES
    if small or QUANTIZED.fullmatch(key):
      raise ValueError(
          f'{tensor.name} ({tensor.kind}): the weights are quantized, want '
          'them in bfloat16, float16 or float32: take the model that was '
          'quantized, or dequantize and save it again')
  return tensors


def some(keys, shown=3):
  """The first of some names, and how many more there are, for messages."""
  keys = sorted(keys)
  more = f' and {len(keys) - shown} more' if len(keys) > shown else ''
  return ', '.join(keys[:shown]) + more
