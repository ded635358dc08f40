"""LoRA adapters in PEFT's files, in and out.

PEFT keeps an adapter as adapter_config.json and adapter_model.safetensors, its
factors transposed against ours: a = lora_A^T, b = lora_B^T.
"""
import json
import pathlib
import re
from typing import Any, NamedTuple

import flax.traverse_util as traverse
import numpy as np
import safetensors.numpy

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


class Adapter(NamedTuple):
  """What fine-tuning trains.

  lora: nested dict of `a` [..., inputs, rank] and `b` [..., rank, features],
    the layers stacked.
  scale: alpha / rank; None where the source does not say.
  visual_head: [D, Dv], or None.
  """
  lora: dict[str, Any]
  scale: float | None
  visual_head: Any = None


def plain_key(key):
  """A tensor's name without what PEFT's wrappers add to it.

  'base_model.model.lm_head.base_layer.weight' -> 'lm_head.weight', and
  '...mlp.base_model.model.0.lora_A.default.weight' -> '...mlp.0.lora_A.weight'.
  """
  key = key.replace(PREFIX, '').replace('modules_to_save.', '')
  return names.plain(re.sub(r'\.(base_layer|default)(?=\.)', '', key))


def import_peft(source):
  """Reads an adapter: PEFT's directory, or tensors of a PEFT state dict.

  Args:
    source: a directory, or {key: array}. A whole state dict will do: the base
      weights in it are left alone.

  Returns:
    An Adapter of jax.Arrays.

  Raises:
    ValueError: if the adapter is of a kind that we do not implement, or has
      tensors that belong to no layer of ours.
  """
  scale = None
  if isinstance(source, dict):
    checkpoint = pretrained.Checkpoint('adapter', source)
  else:
    scale = _read_scale(pathlib.Path(source).expanduser() / CONFIG_FILE)
    checkpoint = pretrained.open_checkpoint(source, WEIGHTS)
  tensors = {plain_key(key): tensor
             for key, tensor in checkpoint.tensors.items()}
  base = [re.escape(weight.key).replace(r'\{layer\}', r'\d+')
          for weight in names.DECODER + names.BLIM_HEADS
          if weight.path != 'visual_head/kernel']
  base = re.compile('|'.join(base))
  tensors = {key: tensor for key, tensor in tensors.items()
             if not base.fullmatch(key)}
  table = names.LORA + tuple(
      weight for weight in names.BLIM_HEADS if 'visual_head' in weight.path)
  lora, _ = pretrained.load(checkpoint._replace(tensors=tensors), table)
  head = lora.pop('visual_head', {}).get('kernel')
  _check_pairs(checkpoint.source, lora)
  return Adapter(lora, scale, head)


def export_peft(adapter, directory, base_model='', nested=True):
  """Writes an adapter as PEFT does.

  Args:
    adapter: an Adapter; its scale must be known, its ranks equal.
    directory: created if need be; files in it are overwritten.
    base_model: the name that PEFT will look for.
    nested: names the projectors as the authors' twice-wrapped model does.
      False names them as `PeftModel.from_pretrained` wants them that wraps the
      bare model once.

  Raises:
    ValueError: if ranks differ or a path names no layer of the released model.
  """
  keys = {weight.path: weight.key for weight in names.LORA}
  flat = traverse.flatten_dict(adapter.lora, sep='/')
  unknown = sorted(set(flat) - set(keys))
  ranks = {leaf.shape[-1] for path, leaf in flat.items() if path[-1] == 'a'}
  if unknown or len(ranks) != 1 or adapter.scale is None:
    raise ValueError(
        f'adapter: got rank {sorted(ranks)}, scale {adapter.scale} and the '
        f'unknown paths {unknown[:3]}; want one rank, a scale, and layers of '
        'the released model')
  tensors, modules = {}, set()
  for path, leaf in flat.items():
    layers = leaf if '{layer}' in keys[path] else leaf[None]
    for layer, factor in enumerate(np.asarray(layers, np.float32)):
      key = keys[path].format(layer=layer)
      modules.add(key.rpartition('.lora_')[0])
      key = re.sub(*NESTED, key) if nested else key
      tensors[PREFIX + key] = np.ascontiguousarray(factor.T)
  if adapter.visual_head is not None:
    head = np.asarray(adapter.visual_head, np.float32)
    tensors[f'{PREFIX}visual_head.weight'] = np.ascontiguousarray(head.T)
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  safetensors.numpy.save_file(
      tensors, directory / f'{WEIGHTS}.safetensors', {'format': 'pt'})
  config = _config(adapter, ranks.pop(), modules, base_model, nested)
  (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + '\n')


def _config(adapter, rank, modules, base_model, nested):
  """adapter_config.json; a nested projector has a wrapper of its own."""
  # Rounded: 29 / 7 * 7 is not quite 29.
  alpha, targets = round(adapter.scale * rank, 9), set()
  for module in modules:
    if 'mm_projector' not in module:
      targets.add(module.rpartition('.')[2])
    elif not nested:
      targets.add(module.removeprefix('model.'))
  return {
      **dict(SUPPORTED),
      'base_model_name_or_path': base_model,
      'fan_in_fan_out': False,
      'inference_mode': True,
      'init_lora_weights': True,
      'lora_alpha': int(alpha) if alpha == int(alpha) else alpha,
      'lora_dropout': 0.0,
      'modules_to_save': None if adapter.visual_head is None else [
          'visual_head'],
      'r': rank,
      'target_modules': sorted(targets),
      'task_type': 'CAUSAL_LM',
  }


def _read_scale(path):
  if not path.exists():
    raise ValueError(f'{path}: no such file; want a directory that PEFT wrote')
  config = json.loads(path.read_text())
  for key, want in SUPPORTED:
    got = config.get(key)
    if got != want and got:
      raise ValueError(f'{path}: got {key} = {got!r}, want {want!r}, the only '
                       'one implemented: merge this adapter with PEFT first')
  return config['lora_alpha'] / config['r']


def _check_pairs(source, lora):
  paths = {tuple(path.rsplit('/', 1))
           for path in traverse.flatten_dict(lora, sep='/')}
  layers = {layer for layer, _ in paths}
  alone = sorted(layer for layer in layers
                 if not {(layer, 'a'), (layer, 'b')} <= paths)
  if alone or not layers:
    raise ValueError(f'{source}: {len(layers)} layers have LoRA factors, of '
                     f'which {alone[:3]} lack one of the two; want both lora_A '
                     'and lora_B of one layer at least: is the file whole?')
