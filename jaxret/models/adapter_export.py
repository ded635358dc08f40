"""Writes adapters as PEFT does: names that PEFT applies, and its config."""
import json
import pathlib
import re

import numpy as np
import safetensors.numpy

from jaxret import sharding
from jaxret.models import adapter_config, adapters, names

# The authors of BLiM wrap the projectors first and the model around them
# second, so their names carry PEFT's prefix twice.
NESTED = (r'(model\.mm_projector\.\w+\.)', r'\1base_model.model.')
# Transforms of names.Weight that a module which is kept whole may have.
WRITTEN = ('copy', 'transpose', 'first_half', 'second_half')


def modules_to_save(params, lora, weights):
  """(held, others) of `params`: what PEFT's files can hold of them.

  Args:
    params: a nested dict of what was trained beside the factors `lora`, as
      params['params'].
    weights: the names.Weight of the model.

  Returns:
    The nested dict of all parameters of modules that were trained whole and
    have no factors; and the other paths, sorted: single tensors, parts of a
    module, modules with factors, and what is laid out otherwise in files.
  """
  trained = sharding.flatten(params)
  modules = _modules(trained, lora, weights)
  held = {path: leaf for path, leaf in trained.items() if modules.get(path)}
  return sharding.unflatten(held), sorted(set(trained) - set(held))


def _modules(trained, lora, weights):
  """{path: the largest module that was trained whole around it, or None}.

  The modules' names are of the files, '{layer}' for the number of a layer.
  """
  adapted = {path.rpartition('/')[0] for path in sharding.flatten(lora)}
  whole = {weight.key: True for weight in weights}
  for weight in weights:
    whole[weight.key] &= (
        weight.path in trained and weight.transform in WRITTEN
        and not weight.spare_layers
        and weight.path.rpartition('/')[0] not in adapted)
  def largest(key):
    parts = key.split('.')
    around = ('.'.join(parts[:end]) for end in range(1, len(parts)))
    return next((module for module in around if all(
        whole[other] for other in whole if other.startswith(f'{module}.'))),
                None)
  return {weight.path: largest(weight.key) for weight in weights
          if weight.path in trained}


def export_peft(adapter, directory, base_model='', nested=True,
                weights=adapters.BLIM):
  """Writes an adapter as PEFT does.

  Args:
    adapter: an Adapter; its scale must be known and one, its ranks equal.
    directory: created if need be; files in it are overwritten.
    base_model: the name that PEFT will look for.
    nested: names the projectors as the authors' twice-wrapped model does.
      False names them as `PeftModel.from_pretrained` wants them that wraps the
      bare model once.
    weights: the names.Weight of the model that it adapts. PEFT takes a file
      with the names of the class that it wraps and no other: give Qwen2-VL's
      as names.newer(names.QWEN2_VL) for transformers 4.52 and later, as
      names.QWEN2_VL for earlier ones.

  Raises:
    ValueError: if ranks differ, a path names no layer of the released model,
      or the adapter holds more than this writes.
  """
  flat = sharding.flatten(adapter.lora)
  keys = {weight.path: weight.key for weight in names.adapters(weights)}
  whole = _whole(adapter)
  modules = _modules(whole, adapter.lora, weights)
  _check(adapter, flat, keys, [path for path in whole if not modules.get(path)])
  factors = _factor_tensors(flat, keys)
  tensors = {**factors, **_whole_tensors(whole, weights)}
  tensors = {adapters.PREFIX + (re.sub(*NESTED, key) if nested else key): tensor
             for key, tensor in tensors.items()}
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  safetensors.numpy.save_file(
      tensors, directory / f'{adapters.WEIGHTS}.safetensors', {'format': 'pt'})
  others = {_last(key.rpartition('.lora_')[0]) for path, key in keys.items()
            if path not in flat}
  targets = _targets({key.rpartition('.lora_')[0] for key in factors}, others,
                     nested)
  config = _config(adapter, base_model, _saved(whole, modules), targets)
  (directory / adapter_config.FILE).write_text(
      json.dumps(config, indent=2) + '\n')


def _check(adapter, flat, keys, alone):
  unknown = sorted({*flat} - {*keys}) + alone
  ranks = {leaf.shape[-1] for path, leaf in flat.items()
           if path.endswith('/a')}
  if unknown or len(ranks) != 1 or not isinstance(
      adapter.scale, (int, float)):
    raise ValueError(
        f'adapter: got rank {sorted(ranks)}, scale {adapter.scale} and the '
        f'unknown paths {unknown[:3]}; want one rank, a scale, and layers of '
        'the released model')
  for field in ('magnitude', 'rows', 'shifts'):
    if getattr(adapter, field):
      raise ValueError(f'adapter: got {field} of '
                       f'{sorted(getattr(adapter, field))[:3]}, want none: '
                       'PEFT has the adapter that they come from')


def _factor_tensors(flat, keys):
  """{key: tensor} of LoRA factors by path, one for each layer."""
  tensors = {}
  for path, leaf in flat.items():
    layers = leaf if '{layer}' in keys[path] else leaf[None]
    for layer, factor in enumerate(np.asarray(layers, np.float32)):
      tensors[keys[path].format(layer=layer)] = np.ascontiguousarray(factor.T)
  return tensors


def _whole(adapter):
  """{path: parameters} of an Adapter's modules and visual head."""
  whole = sharding.flatten(adapter.modules or {})
  if adapter.visual_head is not None:
    whole[adapters.VISUAL_HEAD] = adapter.visual_head
  return whole


def _whole_tensors(whole, weights):
  """{key: tensor} of parameters by path."""
  parts = {}
  for weight in weights:
    if weight.path in whole:
      leaf = np.asarray(whole[weight.path], np.float32)
      for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
        parts.setdefault(weight.key.format(layer=layer), []).append(
            part if weight.transform == 'copy' else part.T)
  return {key: np.ascontiguousarray(np.concatenate(halves))
          for key, halves in parts.items()}


def _saved(whole, modules):
  """The names of modules that are kept whole, one for each layer."""
  return {name.format(layer=layer) for path, name in modules.items()
          for layer in range(whole[path].shape[0] if '{' in name else 1)}


def _last(module):
  return module.rpartition('.')[2]


def _targets(modules, others, nested):
  """PEFT's names of the adapted modules, short where no other has the name.

  A nested projector has a wrapper of its own.
  """
  targets = set()
  for module in modules:
    if 'mm_projector' not in module:
      short = _last(module)
      targets.add(module if short in others else short)
    elif not nested:
      targets.add(module.removeprefix('model.'))
  return sorted(targets)


def _config(adapter, base_model, saved, targets):
  """The contents of adapter_config.json.

  Fields that an older PEFT does not know would stop it: what is at its default
  is left out.
  """
  rank = next(leaf.shape[-1] for path, leaf in
              sharding.flatten(adapter.lora).items() if path.endswith('/a'))
  # Rounded: 29 / 7 * 7 is not quite 29.
  alpha = round(adapter.scale * rank, 9)
  return {
      'peft_type': 'LORA',
      'base_model_name_or_path': base_model,
      'bias': 'none',
      'fan_in_fan_out': False,
      'inference_mode': True,
      'init_lora_weights': True,
      'lora_alpha': int(alpha) if alpha == int(alpha) else alpha,
      'lora_dropout': 0.0,
      'modules_to_save': sorted(saved) or None,
      'r': rank,
      'target_modules': targets,
      'task_type': 'CAUSAL_LM',
  }
