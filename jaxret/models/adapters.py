"""LoRA adapters in PEFT's files, in and out.

PEFT keeps an adapter as adapter_config.json and adapter_model.safetensors, its
factors transposed against ours: a = lora_A^T, b = lora_B^T.
"""
import json
import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from jaxret import sharding
from jaxret.models import lora as lora_lib
from jaxret.models import names, pretrained

CONFIG_FILE = 'adapter_config.json'
WEIGHTS = 'adapter_model'
PREFIX = 'base_model.model.'
# The authors wrap the projectors first and the model around them second, so
# their names carry PEFT's prefix twice.
NESTED = (r'(model\.mm_projector\.\w+\.)', r'\1base_model.model.')
# (field of adapter_config.json, the value that we implement)
SUPPORTED = (('peft_type', 'LORA'), ('bias', 'none'), ('use_dora', False),
             ('use_rslora', False), ('lora_bias', False), ('rank_pattern', {}),
             ('alpha_pattern', {}), ('layers_to_transform', None))
BLIM = names.DECODER + names.BLIM_HEADS
# Transforms of names.Weight that a module which is kept whole may have.
WRITTEN = ('copy', 'transpose', 'first_half', 'second_half')


class Adapter(NamedTuple):
  """What fine-tuning trains.

  lora: nested dict of `a` [..., inputs, rank] and `b` [..., rank, features],
    the layers stacked.
  scale: alpha / rank; None where the source does not say.
  visual_head: [D, Dv], or None.
  modules: {root: parameters} of what was trained whole, PEFT's
    modules_to_save, or None.
  """
  lora: dict[str, Any]
  scale: float | None
  visual_head: Any = None
  modules: dict[str, Any] | None = None


def plain_key(key):
  """A tensor's name without what PEFT's wrappers add to it.

  'base_model.model.lm_head.base_layer.weight' -> 'lm_head.weight', and
  '...mlp.base_model.model.0.lora_A.default.weight' -> '...mlp.0.lora_A.weight'.
  """
  key = key.replace(PREFIX, '').replace('modules_to_save.', '')
  return names.plain(re.sub(r'\.(base_layer|default)(?=\.)', '', key))


def import_peft(source, weights=BLIM):
  """Reads an adapter: PEFT's directory, or tensors of a PEFT state dict.

  Args:
    source: a directory, or {key: array}. A whole state dict will do: the base
      weights in it are left alone.
    weights: the names.Weight of the model that it adapts.

  Returns:
    An Adapter of jax.Arrays.

  Raises:
    ValueError: if the adapter is of a kind that we do not implement, or has
      tensors that belong to no layer of ours.
  """
  scale, saved = None, ()
  if isinstance(source, dict):
    checkpoint = pretrained.Checkpoint('adapter', source)
  else:
    scale, saved = _read_config(pathlib.Path(source).expanduser() / CONFIG_FILE)
    checkpoint = pretrained.open_checkpoint(source, WEIGHTS)
  tensors = {plain_key(key): tensor
             for key, tensor in checkpoint.tensors.items()}
  whole = _saved_whole(checkpoint.source, saved, weights)
  base = [re.escape(weight.key).replace(r'\{layer\}', r'\d+')
          for weight in weights if weight not in whole]
  base = re.compile('|'.join(base))
  tensors = {key: tensor for key, tensor in tensors.items()
             if not base.fullmatch(key)}
  loaded, _ = pretrained.load(
      checkpoint._replace(tensors=tensors), (*names.adapters(weights), *whole))
  head = loaded.pop('visual_head', {}).get('kernel')
  modules = {root: loaded.pop(root) for root in _roots(whole) & set(loaded)}
  _check_pairs(checkpoint.source, loaded)
  return Adapter(loaded, scale, head, modules or None)


def merge(params, adapter):
  """Base parameters {'params': ...} with all that an Adapter holds in them.

  Raises ValueError for a module of another shape than the model's.
  """
  merged = jax.jit(lora_lib.merge, static_argnums=2)(
      params['params'], adapter.lora, adapter.scale)
  for root, module in (adapter.modules or {}).items():
    got, want = (jax.tree.map(np.shape, tree)
                 for tree in (module, merged[root]))
    if got != want:
      raise ValueError(f'the adapter holds {root} of the shapes {got}, the '
                       f'model {want}: it is of another model')
    merged[root] = jax.tree.map(
        lambda new, old: new.astype(old.dtype), module, merged[root])
  return {'params': merged}


def modules_to_save(params, lora, weights):
  """({root: parameters}, others) of `params`: what an adapter can hold whole.

  params: a nested dict of what was trained beside the factors `lora`. others:
  the roots that PEFT's files have no place for, sorted: those which hold
  adapted layers, single tensors, and what is laid out otherwise in files.
  """
  held = {}
  for root, module in params.items():
    table = [weight for weight in weights
             if weight.path.partition('/')[0] == root]
    flat = sharding.flatten({root: module})
    if root not in lora and {weight.path for weight in table} == set(flat) and (
        all('.' in weight.key and weight.transform in WRITTEN
            and not weight.spare_layers for weight in table)):
      held[root] = module
  return held, sorted(set(params) - set(held))


def export_peft(adapter, directory, base_model='', nested=True, weights=BLIM):
  """Writes an adapter as PEFT does.

  Args:
    adapter: an Adapter; its scale must be known, its ranks equal.
    directory: created if need be; files in it are overwritten.
    base_model: the name that PEFT will look for.
    nested: names the projectors as the authors' twice-wrapped model does.
      False names them as `PeftModel.from_pretrained` wants them that wraps the
      bare model once.
    weights: the names.Weight of the model that it adapts.

  Raises:
    ValueError: if ranks differ or a path names no layer of the released model.
  """
  keys = {weight.path: weight.key for weight in names.adapters(weights)}
  flat = sharding.flatten(adapter.lora)
  unknown = sorted(set(flat) - set(keys))
  ranks = {leaf.shape[-1] for path, leaf in flat.items() if path[-1] == 'a'}
  if unknown or len(ranks) != 1 or adapter.scale is None:
    raise ValueError(
        f'adapter: got rank {sorted(ranks)}, scale {adapter.scale} and the '
        f'unknown paths {unknown[:3]}; want one rank, a scale, and layers of '
        'the released model')
  factors = _factor_tensors(flat, keys)
  whole = _whole_tensors(adapter, weights)
  tensors = {PREFIX + (re.sub(*NESTED, key) if nested else key): tensor
             for key, tensor in {**factors, **whole}.items()}
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  safetensors.numpy.save_file(
      tensors, directory / f'{WEIGHTS}.safetensors', {'format': 'pt'})
  others = {_last(key.rpartition('.lora_')[0]) for path, key in keys.items()
            if path not in flat}
  config = _config(adapter, ranks.pop(), base_model, {
      key.split('.')[0] for key in whole}, _targets({
          key.rpartition('.lora_')[0] for key in factors}, others, nested))
  (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + '\n')


def _saved_whole(source, saved, weights):
  """The weights of the modules `saved`, and of the visual head."""
  for name in saved:
    if not any(weight.key.startswith(f'{name}.') for weight in weights):
      raise ValueError(f'{source}: got modules_to_save {name!r}, which this '
                       'model has no place for: merge this adapter with PEFT '
                       'first')
  return tuple(
      weight for weight in weights if weight.path == 'visual_head/kernel'
      or weight.key.startswith(tuple(f'{name}.' for name in saved)))


def _roots(weights):
  return {weight.path.partition('/')[0] for weight in weights}


def _last(module):
  return module.rpartition('.')[2]


def _factor_tensors(flat, keys):
  """{key: tensor} of LoRA factors by path, one for each layer."""
  tensors = {}
  for path, leaf in flat.items():
    layers = leaf if '{layer}' in keys[path] else leaf[None]
    for layer, factor in enumerate(np.asarray(layers, np.float32)):
      tensors[keys[path].format(layer=layer)] = np.ascontiguousarray(factor.T)
  return tensors


def _whole_tensors(adapter, weights):
  """{key: tensor} of an Adapter's modules and visual head."""
  flat, parts = sharding.flatten(adapter.modules or {}), {}
  if adapter.visual_head is not None:
    flat['visual_head/kernel'] = adapter.visual_head
  for weight in weights:
    if weight.path in flat:
      leaf = np.asarray(flat[weight.path], np.float32)
      for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
        parts.setdefault(weight.key.format(layer=layer), []).append(
            part if weight.transform == 'copy' else part.T)
  return {key: np.ascontiguousarray(np.concatenate(halves))
          for key, halves in parts.items()}


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


def _config(adapter, rank, base_model, saved, targets):
  """The contents of adapter_config.json."""
  # Rounded: 29 / 7 * 7 is not quite 29.
  alpha = round(adapter.scale * rank, 9)
  return {
      **dict(SUPPORTED),
      'base_model_name_or_path': base_model,
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


def _read_config(path):
  """(alpha / rank, modules_to_save) of adapter_config.json."""
  if not path.exists():
    raise ValueError(f'{path}: no such file; want a directory that PEFT wrote')
  config = json.loads(path.read_text())
  for key, want in SUPPORTED:
    got = config.get(key)
    if got != want and got:
      raise ValueError(f'{path}: got {key} = {got!r}, want {want!r}, the only '
                       'one implemented: merge this adapter with PEFT first')
  return (config['lora_alpha'] / config['r'],
          tuple(config.get('modules_to_save') or ()))


def _check_pairs(source, lora):
  paths = {tuple(path.rsplit('/', 1))
           for path in sharding.flatten(lora)}
  layers = {layer for layer, _ in paths}
  alone = sorted(layer for layer in layers
                 if not {(layer, 'a'), (layer, 'b')} <= paths)
  if alone or not layers:
    raise ValueError(f'{source}: {len(layers)} layers have LoRA factors, of '
                     f'which {alone[:3]} lack one of the two; want both lora_A '
                     'and lora_B of one layer at least: is the file whole?')
