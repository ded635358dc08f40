"""Qwen2-VL models of the embedding and training benches, and their items.

Weights and items are random. An item is what a reader makes of one: tokens
and the patches of its media, so that neither decoding nor tokenizing is timed.
"""
import dataclasses
import functools
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as media
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.models import decoder
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen2_vl import vision as qwen2_vl_vision

PROMPT_TOKENS = 27  # of UNITE's template, around text and media
VIDEO_SLICES = (2, 4)  # the fewest and the most, two frames each
PATCH_VALUES = 3 * media.TEMPORAL_PATCH * media.PATCH_PX ** 2


class Preset(NamedTuple):
  """A model; sides of its images in tokens, least and most; sizes of a run."""
  config: qwen2_vl.Qwen2VlConfig
  sides: tuple[int, int]
  items: int
  batch_size: int
  pairs: int


PRESETS = {
    'tiny': Preset(qwen2_vl.Qwen2VlConfig(
        decoder.DecoderConfig(640, 128, 256, 2, 4, 2, 32, 1e4,
                              rope_sections=(4, 6, 6), tie_embeddings=True),
        qwen2_vl_vision.VisionConfig(128, 96, 2, 4, 384)),
                   (1, 4), 256, 32, 32),
    '50m': Preset(qwen2_vl.Qwen2VlConfig(
        decoder.DecoderConfig(16384, 512, 2048, 8, 8, 2, 64, 1e6,
                              rope_sections=(8, 12, 12), tie_embeddings=True),
        qwen2_vl_vision.VisionConfig(512, 320, 8, 8, 1280)),
                  (3, 12), 64, 16, 8),
    # Qwen2-VL-2B, for accelerators.
    '2b': Preset(qwen2_vl.Qwen2VlConfig(
        decoder.DecoderConfig(151936, 1536, 8960, 28, 12, 2, 128, 1e6,
                              rope_sections=(16, 24, 24), tie_embeddings=True,
                              dtype='bfloat16', param_dtype='bfloat16'),
        qwen2_vl_vision.VisionConfig(1536, dtype='bfloat16',
                                     param_dtype='bfloat16')),
                 (8, 24), 64, 16, 8),
}


def with_fields(config, **fields):
  """The config of a model with these fields in all parts that have them."""
  new = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if field.name in fields:
      new[field.name] = fields[field.name]
    elif dataclasses.is_dataclass(value):
      new[field.name] = with_fields(value, **fields)
  return dataclasses.replace(config, **new)


def special(config):
  """{'image', 'video'}: the last ids of the vocabulary."""
  size = config.decoder.vocab_size
  return {'image': size - 2, 'video': size - 1}


def init_params(config, mesh):
  """Random parameters {'params': ...} on the mesh."""
  make = functools.partial(qwen2_vl.init, config)
  places = sharding.shardings(mesh, jax.eval_shape(make, jax.random.key(0)))
  return jax.jit(make, out_shardings=places)(jax.random.key(0))


class Ready:
  """A methods.base.Reader of items that were read before, by their id."""

  def __init__(self, config, inputs):
    self._inputs = {one.id: one for one in inputs}
    self.special = special(config)

  def __call__(self, item, prompt=None):
    return self._inputs[item.id]

  def bucket(self, inputs):
    return inputs_lib.shape_of(len(inputs.tokens), inputs.grids)

  def pad(self, inputs, shape):
    return inputs_lib.pad(inputs, shape, self.special)


def mixed(preset, count, seed=0, patch_values=PATCH_VALUES):
  """Texts, images, images with text and videos in turn, of mixed sizes.

  Texts are as long as captions, every other one four times as long. Returns
  data.qwen2_vl.reader.Inputs.
  """
  rng = np.random.default_rng(seed)
  found = []
  for number in range(count):
    kind = ('text', 'image', 'image', 'video')[number % 4]
    n_words = 0
    if number % 4 in (0, 2):
      n_words = int(sum(rng.choice(lengths(), 4 if number % 8 > 3 else 1)))
    found.append(item(preset, rng, f'item {number}', kind, n_words,
                      rng.integers(*preset.sides, 2, endpoint=True),
                      patch_values))
  return found


def pairs(preset, count, seed=0):
  """(captions, images) that fill their budget of tokens in any aspect ratio.

  As a processor resizes large images. Returns two lists of Inputs.
  """
  rng = np.random.default_rng(seed)
  captions, images = [], []
  budget = preset.sides[1] ** 2
  for number in range(count):
    captions.append(item(preset, rng, f'caption {number}', 'text',
                         int(rng.choice(lengths())), ()))
    height = round(preset.sides[1] * float(rng.choice([0.67, 0.75, 1, 1.33])))
    images.append(item(preset, rng, f'image {number}', 'image', 0,
                       (height, budget // height)))
  return captions, images


def item(preset, rng, name, kind, n_words, side, patch_values=PATCH_VALUES):
  """One item with random content; side: (rows, columns) in tokens."""
  config = preset.config
  kinds, grids, patches, placeholders = (), (), (), []
  if kind != 'text':
    slices = 1 if kind == 'image' else int(rng.integers(
        *VIDEO_SLICES, endpoint=True))
    merge = config.vision.merge
    grid = slices, merge * int(side[0]), merge * int(side[1])
    kinds, grids = (kind,), (grid,)
    patches = (rng.integers(
        0, 256, (np.prod(grid), patch_values), np.uint8),)
    placeholders = [special(config)[kind]] * visual_tokens.n_tokens(grid)
  words = rng.integers(0, config.decoder.vocab_size - 2,
                       PROMPT_TOKENS + n_words)
  tokens = np.concatenate([
      words[:PROMPT_TOKENS // 2], placeholders, words[PROMPT_TOKENS // 2:]])
  return inputs_lib.Inputs(
      name, tokens.astype(np.int32), kinds, grids, patches)


@functools.cache
def lengths():
  """How long captions are, tokens; see captions.json."""
  path = pathlib.Path(__file__).parent / 'captions.json'
  return json.loads(path.read_text())['length']


def n_parameters(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def n_patches(inputs):
  return int(sum(np.prod(grid) for one in inputs for grid in one.grids))


def kind(inputs):
  """What a baseline cannot have in one batch: it has all in one."""
  return 0


def length(inputs):
  """What a baseline sorts by, tokens."""
  return len(inputs.tokens)


def counts(config, inputs):
  """{'tokens', 'patches', 'flops'} of items."""
  return {
      'tokens': sum(len(one.tokens) for one in inputs),
      'patches': n_patches(inputs),
      'flops': sum(qwen2_vl.flops(
          config, len(one.tokens),
          [h * w for t, h, w in one.grids for _ in range(t)])
                   for one in inputs)}


def peak(config):
  """(sizes, dtype) of a matrix product as the model has them."""
  c = config.decoder
  return (2048, c.width, c.mlp_width), c.dtype


def torch_model(config, params):
  """The baseline; see torch_qwen2_vl."""
  from jaxret.bench import torch_qwen2_vl
  return torch_qwen2_vl.Model(config, params, special(config))
