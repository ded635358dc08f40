"""Reads LoRA adapters from PEFT's files.

PEFT keeps an adapter as adapter_config.json and adapter_model.safetensors, its
factors transposed against ours: a = lora_A^T, b = lora_B^T.
"""
import collections
import re
from typing import Any, NamedTuple

import numpy as np

from jaxret import sharding
from jaxret.models import (
  adapter_config,
  adapters,
  names,
  pretrained,
  transforms,
)

# (how a key ends, which part of an adapted layer it is, what of the layer it
# changes)
PARTS = (
    (r'lora_(?:embedding_)?A(?:\.weight)?', 'a', 'weight'),
    (r'lora_(?:embedding_)?B(?:\.weight)?', 'b', 'weight'),
    (r'lora_magnitude_vector(?:\.weight)?', 'magnitude', 'weight'),
    (r'lora_B\.bias', 'shift', 'bias'),
    (r'token_adapter\.trainable_tokens_delta', 'tokens', 'weight'),
)
# How files may spell the names of a table besides the table's own way: as
# newer transformers name Qwen2-VL's and LLaVA's, and the bare model of each.
SPELLINGS = (
    lambda key: key,
    names.newer_key,
    lambda key: key.replace('.vision_model.', '.'),
    lambda key: f'model.{key}'.replace('.vision_model.', '.'),
    lambda key: names.newer_key(key).removeprefix('model.'),
    lambda key: key.removeprefix('model.'),
)


class _Key(NamedTuple):
  """What a key of PEFT's file names.

  name: of the model's tensor that it changes, as the file spells it; part: of
  PARTS, or '' = the tensor itself; wrapped: whether it was in a layer of
  PEFT's; nested: in a model of PEFT's inside another, see adapter_export.
  """
  name: str
  part: str
  wrapped: bool
  nested: bool

  @property
  def module(self):
    return self.name.rpartition('.')[0]


class _Place(NamedTuple):
  """A tensor of the model: what of ours it fills, and its layer or None."""
  weights: tuple[names.Weight, ...]
  layer: int | None


def plain_key(key):
  """A tensor's name without what PEFT's wrappers add to it.

  'base_model.model.lm_head.base_layer.weight' -> 'lm_head.weight', and
  '...mlp.base_model.model.0.lora_A.default.weight' -> '...mlp.0.lora_A.weight'.
  """
  return names.plain(re.sub(r'\.base_layer(?=\.)', '', _unwrapped(key)))


def import_peft(source, weights=adapters.BLIM, params=None):
  """Reads an adapter: PEFT's directory, or tensors of a PEFT state dict.

  Args:
    source: a directory or hub model, or {key: array}. A whole state dict will
      do: the base weights in it are left alone.
    weights: the names.Weight of the model that it adapts.
    params: the model's own {'params': ...} or its shapes, which say how many
      layers there are: with it an adapter that lacks some is refused.

  Returns:
    An Adapter of NumPy arrays.

  Raises:
    ValueError: if the adapter is of a kind that we do not implement, or has
      tensors that belong to no layer of ours, or not what its config says.
  """
  if isinstance(source, dict):
    config, checkpoint = None, pretrained.Checkpoint('adapter', source)
  else:
    directory = pretrained.find_model(source)
    config = adapter_config.read(directory / adapter_config.FILE)
    checkpoint = pretrained.open_checkpoint(directory, adapters.WEIGHTS)
  keys = {key: _parse(key) for key in checkpoint.tensors
          if '.original_module.' not in key}
  table = _spelled(weights, keys.values())
  placed = {key: _place(table, parsed.name) for key, parsed in keys.items()}
  left = [key for key in keys if not placed[key] and not any(
      re.fullmatch(pattern, keys[key].name) for pattern, _ in names.IGNORED)]
  if left:
    raise ValueError(
        f'{checkpoint.source}: these tensors fit no parameter: '
        f'{pretrained.some(left)}; want those of the model alone: is it an '
        'adapter of another one?')
  flat = sharding.flatten(params['params']) if params else None
  found = _gather(checkpoint, config, keys, placed, flat)
  _check_layers(checkpoint.source, config, found)
  if config is not None:
    _check_config(config, table, keys, found, flat)
  return _adapter(config, found, flat)


class _Found(NamedTuple):
  """Arrays as ours are laid out, by the parameter's path and its layer.

  layers: {path without its last name: {layer or None: {'module': the name in
    the file, 'nested': bool, 'a', 'b', 'magnitude', 'shift': array}}}.
  wholes: {path: {layer or None: what takes its place}}.
  tokens: {path: (int [n], float32 [n, D])}.
  """
  layers: dict[str, Any]
  wholes: dict[str, Any]
  tokens: dict[str, Any]


def _gather(checkpoint, config, keys, placed, flat):
  """The _Found of all tensors that a model of the parameters `flat` reads."""
  found = _Found(*(collections.defaultdict(dict) for _ in _Found._fields))
  for key, place in placed.items():
    for weight in place.weights if place else ():
      parsed, path = keys[key], weight.path
      if (not parsed.part and config is None and path != adapters.VISUAL_HEAD
          ) or _is_spare(checkpoint.source, key, weight, place.layer, flat):
        continue
      array = _read(checkpoint, key, weight, parsed.part)
      if not parsed.part:
        found.wholes[path][place.layer] = array
      elif parsed.part == 'tokens':
        found.tokens[path] = (_token_indices(
            checkpoint, config, parsed, array, path), array)
      else:
        of_layer = found.layers[path.rpartition('/')[0]].setdefault(
            place.layer, {'module': parsed.module, 'nested': parsed.nested})
        of_layer[parsed.part] = array
  return found


def _is_spare(source, key, weight, layer, flat):
  """Whether a tensor is of a layer that the model has no use for.

  Raises ValueError for a layer that the model does not have at all.
  """
  if layer is None or flat is None or weight.path not in flat:
    return False
  layers = flat[weight.path].shape[0]
  if layer < layers + weight.spare_layers:
    return layer >= layers
  raise ValueError(f'{source}: {key} is of layer {layer}, the model has '
                   f'{layers}: it is an adapter of another model')


def _read(checkpoint, key, weight, part):
  """A tensor as our parameter is laid out: float32."""
  tensor = checkpoint.tensors[key]
  array = np.asarray(tensor[(slice(None),) * len(tensor.shape)]).astype(
      np.float32)
  fits = array.size and array.ndim >= (2 if part in ('a', 'b', 'tokens') else 1)
  if part not in ('', 'shift'):
    fits = fits and weight.path.rpartition('/')[2] in adapters.KERNELS
  if part == 'b':
    fits = fits and array.size == array.shape[0] * array.shape[1]
  if not fits:
    raise ValueError(f'{checkpoint.source}: {key} of the shape {array.shape} '
                     f'fits no part of {weight.path}: is the file whole?')
  if not np.isfinite(array).all():
    raise ValueError(f'{checkpoint.source}: {key} holds NaN or infinity; the '
                     'file is damaged or its training diverged: take another')
  return _turned(array, weight.transform, part)


def _turned(array, transform, part):
  """PyTorch's layout of a part, [out, in, ...], as ours."""
  if part == 'tokens':
    return array
  if part == 'b':
    array = array.reshape(array.shape[:2])
  elif part == 'magnitude':
    array = array.reshape(-1)
  convolution = transform in ('patch', 'flatten')
  if part and transform == 'copy' or part == 'a' and not convolution or (
      part and part != 'a' and convolution):
    return array.T
  return transforms.TRANSFORMS[transform].read(
      array, (slice(None),) * (2 if convolution else array.ndim))


def _token_indices(checkpoint, config, parsed, array, path):
  """int [n]: the rows of an embedding that trainable tokens replace."""
  indices = config and adapter_config.token_indices(config, parsed.module)
  if indices is None or len(indices) != len(array) or (
      not path.endswith('/embedding')):
    raise ValueError(
        f'{checkpoint.source}: got {len(array)} trainable tokens of '
        f'{parsed.module}, trainable_token_indices names {indices}; want as '
        'many, of the input embedding')
  return np.array(indices, np.int32)


def _check_layers(source, config, found):
  """Every adapted layer is whole, and has what the config says and no more."""
  alone = sorted(f'{path} of layer {layer}' if layer is not None else path
                 for path, layers in found.layers.items()
                 for layer, parts in layers.items()
                 if not {'a', 'b'} <= set(parts)
                 or parts['a'].shape[-1] != parts['b'].shape[0])
  if alone or not any(found):
    raise ValueError(f'{source}: {len(found.layers)} layers have LoRA factors, '
                     f'of which {alone[:3]} lack one of the two; want both '
                     'lora_A and lora_B, of one rank: is the file whole?')
  for part, field in (('magnitude', 'use_dora'), ('shift', 'lora_bias')):
    want = bool(config and config.fields.get(field))
    wrong = [parts['module'] for layers in found.layers.values()
             for parts in layers.values() if (part in parts) != want]
    if wrong and (config or part == 'shift'):
      raise ValueError(
          f'{config.path if config else source} says {field} = {want}, and '
          f'{pretrained.some(wrong)} {"lack" if want else "have"} the tensor '
          'of it: the two files are not of one adapter')


def _check_config(config, table, keys, found, flat):
  """The file holds what its config says, all of it and no more."""
  present = {parts['module']: parts['nested']
             for layers in found.layers.values() for parts in layers.values()}
  missing = [module for module, linear in _modules(table, flat)
             if module not in present
             and adapter_config.targets(config, module, linear)]
  unused = [module for module, nested in present.items() if not nested
            and adapter_config.targets(config, module) is False]
  for what, modules in (('no factors of', missing), (
      'factors that its config does not target, of', unused)):
    if modules:
      raise ValueError(f'{config.path}: the adapter has {what} '
                       f'{pretrained.some(modules)}: is it of another model, '
                       'or damaged?')
  for key, parsed in keys.items():
    if not parsed.part and parsed.wrapped != (parsed.module in present):
      raise ValueError(f'{config.path}: PEFT would pass over {key}: write the '
                       'adapter again, with a newer PEFT')
  for name in config.fields.get('modules_to_save') or ():
    if not any(name in adapter_config.saves(config, parsed.module)
               for parsed in keys.values() if not parsed.part):
      raise ValueError(f'{config.path}: got modules_to_save {name!r}, and the '
                       'file has no tensor of it that this model has a place '
                       f'for: {adapter_config.ELSE}')


def _modules(table, flat):
  """(name in the file, whether it is linear) of what PEFT can adapt.

  Only of what the model reads: nothing where it is not known.
  """
  for name, weights in table.items():
    path, transform = weights[0].path, weights[0].transform
    if path in (flat or ()) and path.rpartition('/')[2] in adapters.KERNELS:
      layers = range(flat[path].shape[0] if '{layer}' in name else 1)
      for layer in layers:
        yield (name.format(layer=layer).removesuffix('.weight'),
               transform not in ('copy', 'patch', 'flatten'))


def _adapter(config, found, flat):
  """The Adapter of what was found."""
  lora, scales, magnitude, shifts = {}, {}, {}, {}
  for path, layers in found.layers.items():
    count = _count(
        layers, flat, [f'{path}/{name}' for name in adapters.KERNELS])
    rank = max(parts['a'].shape[-1] for parts in layers.values())
    for parts in layers.values():
      missing = rank - parts['a'].shape[-1]
      if config is not None:
        parts['scale'] = adapter_config.scale(
            config, parts['module'], parts['a'].shape[-1])
      parts['a'] = np.pad(parts['a'], ((0, 0), (0, missing)))
      parts['b'] = np.pad(parts['b'], ((0, missing), (0, 0)))
    for name in 'ab':
      lora[f'{path}/{name}'] = _stack(layers, name, count)
    if config is not None:
      scales[path] = _stack(layers, 'scale', count)
    if any('magnitude' in parts for parts in layers.values()):
      magnitude[path] = _stack(layers, 'magnitude', count, np.nan)
    if any('shift' in parts for parts in layers.values()):
      shifts[f'{path}/bias'] = _stack(layers, 'shift', count) * (
          np.asarray(scales[path])[..., None])
  used = {parts['scale'] for layers in found.layers.values()
          for parts in layers.values() if 'scale' in parts}
  whole, rows = _replacements(found, flat)
  head = whole.pop(adapters.VISUAL_HEAD, None)
  scale = used.pop() if len(used) == 1 else scales or None
  return adapters.Adapter(
      sharding.unflatten(lora), scale, head, sharding.unflatten(whole) or None,
      magnitude, rows, shifts)


def _replacements(found, flat):
  """({path: array}, {path: (rows, array)}) of what takes the model's place."""
  whole, rows = {}, dict(found.tokens)
  for path, layers in found.wholes.items():
    if None in layers:
      whole[path] = layers[None]
    elif len(layers) == _count(layers, flat, [path]):
      whole[path] = np.stack([layers[layer] for layer in sorted(layers)])
    else:
      rows[path] = (np.array(sorted(layers), np.int32),
                    np.stack([layers[layer] for layer in sorted(layers)]))
  return whole, rows


def _count(layers, flat, paths):
  """How many layers are stacked: as many as the model has; None = none."""
  if None in layers:
    return None
  return next((flat[path].shape[0] for path in paths if path in (flat or ())),
              max(layers) + 1)


def _stack(layers, name, count, fill=0):
  """The arrays of all layers, `fill` where a layer has none."""
  if count is None:
    return layers[None][name]
  first = next(iter(layers.values()))[name]
  out = np.full((count, *np.shape(first)), fill, np.float32)
  for layer, parts in layers.items():
    out[layer] = parts[name]
  return out


def _unwrapped(key):
  key = re.sub(r'\.default(?=\.|$)', '', key.replace(adapters.PREFIX, ''))
  return key.replace('modules_to_save.', '')


def _parse(key):
  nested, key = key.count(adapters.PREFIX) > 1, _unwrapped(key)
  for ending, part, leaf in PARTS:
    match = re.fullmatch(rf'(.+)\.{ending}', key)
    if match:
      return _Key(f'{match[1]}.{leaf}', part, True, nested)
  name = key.replace('.base_layer.', '.')
  return _Key(name, '', name != key, nested)


def _spelled(weights, keys):
  """{name in the file: weights}, spelled so that the most keys are known."""
  def table(spelling):
    spelled = {}
    for weight in weights:
      spelled.setdefault(spelling(weight.key), []).append(weight)
    return spelled
  return max(map(table, SPELLINGS), key=lambda spelled: sum(
      _place(spelled, key.name) is not None for key in keys))


def _place(table, name):
  """The _Place of a tensor, one number in its name being the layer, or None."""
  if name in table:
    return _Place(table[name], None)
  parts = name.split('.')
  for index, part in enumerate(parts):
    template = '.'.join([*parts[:index], '{layer}', *parts[index + 1:]])
    if part.isdecimal() and template in table:
      return _Place(table[template], int(part))
  return None
