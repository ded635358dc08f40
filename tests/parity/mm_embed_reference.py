"""The golden files of MM-Embed in the form that our code takes.

Every size comes from the configs, the tables or the arrays themselves.
"""
import functools
import json
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data import types
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import reader as mm_embed_inputs
from jaxret.models import pretrained
from jaxret.models.llava import files as llava_next_files
from jaxret.models.llava import mm_embed_files
from jaxret.models.llava import names as mm_embed_names

# Absolute, float32, as the golden data vouch for.
EMBEDDINGS, HIDDEN, LOGITS = 5e-6, 2e-4, 5e-5
GRADIENTS = 1e-3  # relative to the largest element of each tensor
ROUNDING = 1e-6  # relative to the largest element of all tensors


class Model(NamedTuple):
  """A MmEmbedConfig or LlavaNextConfig, parameters, and files besides."""
  config: Any
  params: dict[str, Any]
  image_id: int
  grid: llava_images.Grid  # with pinpoints


def read(folder, name):
  with np.load(folder / name) as arrays:
    return dict(arrays)


def table(folder, name):
  return json.loads((folder / name).read_text())


def _model(files, directory):
  found = files.read_config(directory)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  vision = found.config.vision
  return Model(found.config, files.load(directory, found.config, mesh),
               found.image_id, llava_images.Grid(
                   vision.image_px, vision.patch_px, found.pinpoints))


def model(folder):
  return _model(mm_embed_files, folder / 'model')


def reranker(folder):
  return _model(llava_next_files, folder / 'rerank')


def tensors(directory):
  """{key: array} of a model's checkpoint, in one file or several."""
  return {key: np.asarray(tensor[:]) for key, tensor in
          pretrained.open_checkpoint(directory).tensors.items()}


def crop_0(model):
  """The Grid of a model that sees no tiles."""
  return model.grid._replace(pinpoints=())


def images(folder, name):
  """Pixels of images.npz in a directory, by number."""
  arrays = read(folder, f'{name}/images.npz')
  return [arrays[f'image_{i}'] for i in range(len(arrays))]


def rows(arrays, prefix=''):
  """The tokens of each row of a golden batch, padding on either side gone."""
  mask = arrays[f'{prefix}attention_mask'].astype(bool)
  return [ids[keep] for ids, keep in zip(arrays[f'{prefix}input_ids'], mask)]


def batch(arrays, model, prefix='', length=None):
  """A golden batch as llava.mm_embed gets it, pixels normalised already."""
  grid, n_images = crop_0(model), 0
  pixels = arrays.get(f'{prefix}pixel_values')
  expanded, seen = [], []
  for ids in rows(arrays, prefix):
    n_visual = len(llava_images.token_order((1, 1), grid))
    is_image = ids == model.image_id
    expanded.append(np.repeat(
        np.where(is_image, mm_embed_inputs.VISUAL, ids),
        np.where(is_image, n_visual, 1)))
    seen.append(n_images if is_image.any() else None)
    n_images += int(is_image.sum())
  out = {
      'tokens': stack(expanded, length), 'length': lengths(expanded),
      'pool_start': arrays[f'{prefix}instruction_lengths'].astype(np.int32)}
  if not n_images:
    return out
  assert n_images == len(pixels)
  side = grid.image_px
  crops = np.zeros((len(seen), 1, side, side, 3), np.float32)
  for row, image in zip(crops, seen):
    if image is not None:
      row[0] = pixels[image, 0].transpose(1, 2, 0)
  return {**out, 'pixels': crops,
          'visual_index': mm_embed_inputs.visual_index(out['tokens'])}


def stack(arrays, length=None):
  out = np.zeros((len(arrays), length or max(map(len, arrays))), np.int32)
  for row, array in zip(out, arrays):
    row[:len(array)] = array
  return out


def lengths(arrays):
  return np.array([len(array) for array in arrays], np.int32)


def channels_last(pixels):
  return np.moveaxis(pixels, -3, -1)


def item(entry, pixels, name='item'):
  """The Item of {'txt', 'img'}."""
  number = entry.get('img')
  return types.Item(name, entry.get('txt'),
                    None if number is None else pixels[number])


def case_rows(case):
  """[(entry, is_query, instruction)] of a case."""
  if 'rows' in case:
    return [(row['input'], row['is_query'], row['instruction'])
            for row in case['rows']]
  return [(entry, case['is_query'], case['instruction'])
          for entry in case['inputs']]


def load_tensors(tensors, names, abstract):
  """Golden tensors, weights or gradients, as our parameters lie."""
  checkpoint = pretrained.Checkpoint('golden', tensors)
  return pretrained.load(checkpoint, names, abstract)[0]


def latent_params(arrays, config, prefix, latents):
  """Parameters (or gradients) of latent attention from a golden file."""
  tensors = {f'latent_attention_model.{key.removeprefix(prefix)}': array
             for key, array in arrays.items()
             if key.startswith(prefix) and not key.endswith('_f64')}
  tensors['latent_attention_model.latents'] = arrays[latents]
  return load_tensors(tensors, mm_embed_names.LATENT, config)[
      'latent_attention']


def check_gradients(got, want):
  """Every tensor, layer by layer, against its own largest element.

  What is zero but for rounding, the bias of CLIP's keys, which softmax takes
  out again, must be so in both.
  """
  got, want = sharding.flatten(got), sharding.flatten(want)
  assert got.keys() == want.keys()
  rounding = ROUNDING * max(
      np.abs(np.asarray(array)).max() for array in want.values())
  for path, golden in want.items():
    stacked = '/layers/' in path
    for layer in range(len(golden) if stacked else 1):
      ours, theirs = (np.asarray(x[layer] if stacked else x)
                      for x in (got[path], golden))
      largest = np.abs(theirs).max()
      if largest < rounding:
        assert np.abs(ours).max() < rounding, (path, layer)
      else:
        assert np.abs(ours - theirs).max() < GRADIENTS * largest, (path, layer)


@functools.cache
def compiled(config, method):
  """A jitted method (a function of the module and inputs) of a model."""
  return jax.jit(functools.partial(config.module().apply, method=method))


def apply(model, method, *args):
  return compiled(model.config, method)(model.params, *args)
