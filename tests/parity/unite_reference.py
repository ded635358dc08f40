"""The golden files of UNITE in the form that our code takes.

Every size comes from the configs, the tables or the arrays themselves.
"""
import json
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.models import adapter_import, names
from jaxret.models.qwen2_vl import files as qwen2_vl_files
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen2_vl import vision as qwen2_vl_vision

KINDS = {'image': ('in/pixel_values', 'in/image_grid_thw'),
         'video': ('in/pixel_values_videos', 'in/video_grid_thw')}


class Model(NamedTuple):
  """A Qwen2VlConfig, parameters, and the ids of the control tokens."""
  config: model_lib.Qwen2VlConfig
  params: dict[str, Any]
  special: dict[str, int]


def read(folder, name):
  with np.load(folder / name) as arrays:
    return dict(arrays)


def table(folder, name):
  return json.loads((folder / name).read_text())


def cases(folder):
  """The names of the model's input cases."""
  return list(table(folder, 'qwen2vl/cases.json')['cases'])


def model(folder, position_mode='sequential', adapter=False):
  """The golden model, with the golden LoRA factors beside it if asked for."""
  directory, numerics = folder / 'qwen2vl' / 'model', {}
  if adapter:
    found = adapter_import.import_peft(folder / 'qwen2vl' / 'lora_adapter')
    numerics = {'lora_scale': found.scale}
  config, special = qwen2_vl_files.read_config(
      directory, position_mode, **numerics)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = qwen2_vl_files.load(directory, config, mesh)
  if adapter:
    params['lora'] = found.lora
  return Model(config, params, special)


def case(folder, name):
  """Arrays of a case; one padded on the right borrows what is seen."""
  arrays = read(folder, f'qwen2vl/{name}.npz')
  lender = table(folder, 'qwen2vl/cases.json')['cases'][name].get(
      'vision_inputs_from', name)
  if lender != name:
    lent = read(folder, f'qwen2vl/{lender}.npz')
    for keys in KINDS.values():
      arrays |= {key: lent[key] for key in keys if key in lent}
  return arrays


class Seen(NamedTuple):
  """The media of one row of a batch: see data.qwen2_vl.reader.Inputs."""
  kinds: tuple[str, ...]
  grids: tuple[tuple[int, int, int], ...]
  patches: tuple[np.ndarray, ...]


def media(arrays, tokens, special):
  """The Seen of every row: the golden lists go over the whole batch.

  The media of a row are those whose visual tokens its placeholders take.
  """
  left = {}
  for kind, (pixels, grids) in KINDS.items():
    grids = arrays.get(grids, np.zeros((0, 3), np.int64))
    ends = np.cumsum(grids.prod(1))
    patches = np.split(arrays[pixels], ends[:-1]) if len(grids) else []
    left[kind] = list(zip(map(tuple, grids.tolist()), patches))
  rows = []
  for row in tokens:
    seen = []
    for kind in KINDS:
      wanted = int((row == special[kind]).sum())
      while wanted > 0:
        grid, patches = left[kind].pop(0)
        seen.append((kind, grid, patches))
        wanted -= visual_tokens.n_tokens(grid)
      assert wanted == 0
    rows.append(Seen(*zip(*seen)) if seen else Seen((), (), ()))
  assert not any(left.values())
  return rows


def batch(arrays, model, tokens=None, mask=None, row_patches=None,
          layout=visual_tokens.QWEN2_VL):
  """The golden inputs as our model gets them, padded as they are.

  Returns (arrays like qwen2_vl.reader.pad gives, without 'length'; the Rows
  of each item; its Seen). row_patches: P; default: the largest slice. layout:
  of a backbone whose golden data may say the seconds of a video's slices.
  """
  tokens = arrays['in/input_ids'] if tokens is None else tokens
  mask = arrays['in/attention_mask'] if mask is None else mask
  mask = mask.astype(bool)
  rows = media(arrays, np.where(mask, tokens, -1), model.special)
  sizes = [visual_tokens.slices(seen.grids) for seen in rows]
  seconds = list(arrays.get('in/second_per_grid_ts', ()))
  out = {'tokens': tokens.astype(np.int32), 'keys': mask,
         'positions': positions(tokens, mask, rows, model.special, seconds,
                                layout.tokens_per_second)}
  if not any(sizes):
    return out, None, rows
  row_patches = row_patches or max(max(own, default=0) for own in sizes)
  n_rows = max(visual_tokens.fill(own, row_patches)[1] for own in sizes)
  laid = [visual_tokens.lay_out(seen.grids, n_rows, row_patches, layout.merge,
                                layout.window) for seen in rows]
  width = next(seen for seen in rows if seen.patches).patches[0].shape[1]
  patches = np.zeros((len(rows), n_rows * row_patches, width), np.float32)
  index = np.full(tokens.shape, -1, np.int32)
  for i, (seen, place) in enumerate(zip(rows, laid)):
    if seen.patches:
      patches[i, place.patch_index] = np.concatenate(seen.patches)
    index[i, mask[i]] = visual_tokens.visual_index(
        tokens[i, mask[i]], seen.kinds, seen.grids, place.patch_index,
        model.special, f'row {i}')
  out |= {'patches': patches.reshape(len(rows), n_rows, row_patches, width),
          'segments': np.stack([place.segments for place in laid]),
          'coordinates': np.stack([place.coordinates for place in laid]),
          'visual_index': index}
  return out, laid, rows


def alike(batches):
  """Batches of one P padded to one shape: all run through one program.

  Padding goes behind what is there; nothing sees it, no index moves.
  """
  whole = {}
  for batch in batches.values():
    whole |= batch
  sizes = {name: [max(sides) for sides in zip(*(
      batch[name].shape for batch in batches.values() if name in batch))]
      for name in whole}
  n_rows = max(size[0] for size in sizes.values())
  def padded(batch, name):
    size = [n_rows, *sizes[name][1:]]
    fill = -1 if name == 'visual_index' else 0
    out = np.full(size, fill, whole[name].dtype)
    if name in batch:
      out[tuple(map(slice, batch[name].shape))] = batch[name]
    return out
  if 'visual_index' in sizes:
    sizes['visual_index'] = sizes['tokens']
  return {case: {name: padded(batch, name) for name in whole}
          for case, batch in batches.items()}


def right_padded(batch):
  """A reference batch with its padding at the end, as our method reads it."""
  keys, out = batch['keys'], dict(batch)
  order = np.argsort(~keys, 1, kind='stable')
  for name in ('tokens', 'visual_index'):
    if name in out:
      out[name] = np.take_along_axis(out[name], order, 1)
  del out['keys'], out['positions']
  return {**out, 'length': keys.sum(1).astype(np.int32)}


def largest_slice(folder, model):
  """P that holds any slice of any case."""
  sizes = [1]
  for name in cases(folder):
    arrays = case(folder, name)
    mask = arrays['in/attention_mask'].astype(bool)
    for seen in media(arrays, np.where(mask, arrays['in/input_ids'], -1),
                      model.special):
      sizes += visual_tokens.slices(seen.grids)
  return max(sizes)


def positions(tokens, mask, rows, special, seconds=(), rate=None):
  """M-RoPE positions [B, 3, T] of rows that are padded on either side.

  seconds: of a slice of each video of the batch. rate: Layout's
  tokens_per_second.
  """
  out = np.zeros((len(tokens), 3, tokens.shape[1]), np.int32)
  seconds = list(seconds)
  for i, seen in enumerate(rows):
    steps = [(seconds.pop(0), rate) if kind == 'video' and rate else (1, 1)
             for kind in seen.kinds]
    out[i][:, mask[i]] = visual_tokens.mrope_positions(
        tokens[i, mask[i]], seen.kinds, seen.grids, special, steps=steps)
  return out


def unpacked(values, laid, rows, kind, per):
  """Rows [M, D] of one kind of medium in golden order, from [B, S * P / per].

  per: patches per value, 1 before the merger and a token's after it.
  """
  parts = []
  for value, place, seen in zip(values, laid, rows):
    ends = np.cumsum([int(np.prod(grid)) for grid in seen.grids])
    if not len(ends):
      continue
    for its, index in zip(seen.kinds,
                          np.split(place.patch_index, ends[:-1])):
      if its == kind:
        parts.append(np.asarray(value)[index[::per] // per])
  return np.concatenate(parts)


def locate(tensors, root):
  """Where each golden tensor lies in our parameters.

  Yields (key, path, index of the layer or (), array as ours is laid out).
  """
  weights = names.LORA if root == 'lora/' else names.QWEN2_VL
  for key, tensor in tensors.items():
    plain = adapter_import.plain_key(key)
    for weight in weights:
      match = re.fullmatch(
          re.escape(weight.key).replace(r'\{layer\}', r'(\d+)'), plain)
      if match:
        break
    else:
      raise AssertionError(f'{key} is in no table')
    array = tensor.T if weight.transform == 'transpose' else tensor
    yield key, root + weight.path, tuple(map(int, match.groups())), array


def resolution_limits(folder, kind):
  """(least, most) pixels that the golden processor was given."""
  limits = table(folder, 'preprocess/tables.json')['processor_limits']
  prefix = 'v' if kind == 'video' else ''
  return limits[f'{prefix}minp'], limits[f'{prefix}maxp']


def processed(frames, limits, variant='qwen_vl_utils_0_0_8'):
  """(float32 patches, grid) of frames through our processor.

  variant: one of qwen2_vl.RESIZE_VARIANTS.
  """
  size = qwen2_vl.smart_resize(*frames.shape[1:3], limits, variant)
  patches, grid = qwen2_vl.patchify(qwen2_vl.resize(frames, [size]))
  return np.asarray(qwen2_vl_vision.pixel_values(patches)), grid
