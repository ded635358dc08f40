"""The golden files of Qwen3-VL in the form that our code takes.

Every size comes from the configs, the tables or the arrays themselves.
"""
import functools
import json
import pathlib
import shutil
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data import text
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import layout as layout_lib
from jaxret.data.qwen3_vl import reader as reader_lib
from jaxret.models.qwen3_vl import files
from jaxret.models.qwen3_vl import model as model_lib

KINDS = {'image': ('in/pixel_values', 'in/image_grid_thw'),
         'video': ('in/pixel_values_videos', 'in/video_grid_thw')}


class Model(NamedTuple):
  """A Qwen3VlConfig, parameters, and the ids of the control tokens."""
  config: model_lib.Qwen3VlConfig
  params: dict[str, Any]
  special: dict[str, int]


class Case(NamedTuple):
  """The golden arrays of a case, its rows as Inputs, and their batch.

  The batches of all cases are of one shape, so that one program serves them:
  they may have more rows than their case, the last one again. keys: bool
  [B, T], where the golden rows have a token.
  """
  arrays: dict[str, np.ndarray]
  rows: list[inputs_lib.Inputs]
  batch: dict[str, np.ndarray]
  keys: np.ndarray


def read(folder, name):
  with np.load(folder / name) as arrays:
    return dict(arrays)


def table(folder, name):
  return json.loads((folder / name).read_text())


@functools.cache
def model(folder):
  directory = folder / 'model'
  config, special = files.read_config(directory)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = files.load(directory, config, mesh, generates=True)
  return Model(config, params, special)


@functools.cache
def tokenizer(folder, file='model/tokenizer.json'):
  """The golden tokenizer, as a file of the golden folder has it."""
  with tempfile.TemporaryDirectory() as directory:
    for source, name in ((file, 'tokenizer.json'),
                         ('model/tokenizer_config.json',
                          'tokenizer_config.json')):
      shutil.copy(folder / source, pathlib.Path(directory, name))
    return text.load_tokenizer(directory)


def cases(folder, special):
  """{name: Case} of all."""
  found = {name: _rows(folder, name, special)
           for name in table(folder, 'cases.json')['cases']}
  shape = inputs_lib.common_shape([
      inputs_lib.shape_of(len(row.tokens), row.grids)
      for _, rows, _ in found.values() for row in rows])
  most = max(len(rows) for _, rows, _ in found.values())
  return {name: Case(arrays, rows, reader_lib.pad(
      rows + rows[-1:] * (most - len(rows)), shape, special), keys)
          for name, (arrays, rows, keys) in found.items()}


def _rows(folder, name, special):
  """(arrays, Inputs, keys); one padded on the right borrows what is seen."""
  said = table(folder, 'cases.json')['cases'][name]
  arrays = read(folder, said['file'])
  lender = said.get('vision_inputs_from', name)
  if lender != name:
    lent = read(folder, table(folder, 'cases.json')['cases'][lender]['file'])
    for keys in KINDS.values():
      arrays |= {key: lent[key] for key in keys if key in lent}
  keys = arrays['in/attention_mask'].astype(bool)
  rows = [
      inputs_lib.Inputs(f'row {i}', tokens[own].astype(np.int32), *seen)
      for i, (tokens, own, seen) in enumerate(zip(
          arrays['in/input_ids'], keys, media(arrays, special)))]
  return arrays, rows, keys


def media(arrays, special):
  """(kinds, grids, patches) of each row: what its placeholders take.

  The golden lists go over the whole batch, and every temporal patch of a video
  is a medium of its own.
  """
  left = {}
  for kind, (pixels, grids) in KINDS.items():
    grids = arrays.get(grids, np.zeros((0, 3), np.int64)).tolist()
    grids = [grid for whole in grids for grid in layout_lib.slices(whole)]
    ends = np.cumsum([np.prod(grid) for grid in grids])
    patches = np.split(arrays[pixels], ends[:-1]) if grids else []
    left[kind] = list(zip(grids, patches))
  for tokens, own in zip(arrays['in/input_ids'],
                         arrays['in/attention_mask'].astype(bool)):
    seen = []
    for kind in KINDS:
      wanted = int((tokens[own] == special[kind]).sum())
      while wanted > 0:
        grid, patches = left[kind].pop(0)
        seen.append((kind, grid, patches))
        wanted -= visual_tokens.n_tokens(grid)
      assert wanted == 0
    yield tuple(zip(*seen)) or ((), (), ())
  assert not any(left.values())


def placed(case, kind, per):
  """[(row, where in the flat [S * P / per])] of each value of a kind."""
  segments = case.batch['segments']
  found = []
  for i, row in enumerate(case.rows):
    index = visual_tokens.lay_out(
        row.grids, *segments.shape[1:]).patch_index
    ends = np.cumsum([int(np.prod(grid)) for grid in row.grids])
    for its, part in zip(row.kinds, np.split(index, ends[:-1])):
      if its == kind:
        found += [(i, place // per) for place in part[::per]]
  rows, places = zip(*found)
  return np.array(rows), np.array(places)


def unpadded(values, keys):
  """Right-padded values [B, T, ...] as the golden rows have their tokens."""
  return np.concatenate([
      np.asarray(value)[:own.sum()] for value, own in zip(values, keys)])
