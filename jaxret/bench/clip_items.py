"""A CLIP of the embedding bench, and its items: texts, images, videos."""
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.bench import multimodal
from jaxret.data import whole_texts
from jaxret.data.dual_encoder import reader
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.models import clip, encoder
from jaxret.models.dual_encoder import model as model_lib

FRAMES = (4, 12)  # of a video, the fewest and the most


class Preset(NamedTuple):
  """A model and the sizes of a run."""
  config: model_lib.DualEncoderConfig
  items: int
  batch_size: int


def _config(width, text_width, layers, image_px, patch_px, vocab_size,
            max_tokens):
  def tower(size):
    return encoder.EncoderConfig(size, 4 * size, layers, size // 64 or 1,
                                 'quick_gelu')
  return model_lib.DualEncoderConfig(
      'clip', clip.ClipVisionConfig(tower(width), image_px, patch_px),
      clip.ClipTextConfig(tower(text_width), vocab_size, max_tokens,
                          vocab_size - 1), text_width,
      model_lib.Processor(image_px, (image_px, image_px), 3, clip.MEAN,
                          clip.STD))


# ViT-B/32 as published is twice as wide as '50m' and four layers deeper.
PRESETS = {
    'tiny': Preset(_config(64, 32, 2, 32, 8, 640, 32), 256, 32),
    '50m': Preset(_config(512, 384, 8, 224, 32, 16384, 77), 256, 32),
}


def init_params(config, mesh):
  """Random parameters {'params': ...} on the mesh."""
  make = functools.partial(model_lib.init, config)
  places = sharding.shardings(mesh, jax.eval_shape(make, jax.random.key(0)))
  return jax.jit(make, out_shardings=places)(jax.random.key(0))


class Ready:
  """A methods.base.Reader of items that were read before, by their id."""

  def __init__(self, config, inputs):
    self._inputs = {one.id: one for one in inputs}
    self._most = config.text.max_tokens

  def __call__(self, item, prompt=None):
    return self._inputs[item.id]

  def bucket(self, inputs):
    if inputs.tokens is None:
      return reader.Shape(0, inputs_lib.bucket(len(inputs.pixels)))
    return reader.Shape(
        min(inputs_lib.bucket(len(inputs.tokens), 16), self._most))

  def pad(self, inputs, shape):
    shape = reader.Shape(*shape)
    if shape.tokens:
      return whole_texts.pad(
          [one.tokens for one in inputs], shape.tokens, pad_id=0)
    pixels = np.zeros(
        (len(inputs), shape.frames, *inputs[0].pixels.shape[1:]), np.uint8)
    for one, row in zip(inputs, pixels):
      row[:len(one.pixels)] = one.pixels
    return {'pixels': pixels, 'n_frames': np.array(
        [len(one.pixels) for one in inputs], np.int32)}


def mixed(preset, count, seed=0):
  """Texts, images, texts and videos in turn, of mixed lengths.

  Returns data.dual_encoder.reader.Inputs.
  """
  rng = np.random.default_rng(seed)
  text, side = preset.config.text, preset.config.vision.image_px
  found = []
  for number in range(count):
    name = f'item {number}'
    if number % 2 == 0:
      words = rng.integers(1, text.eos_id, min(
          int(rng.choice(multimodal.lengths())), text.max_tokens - 1))
      found.append(reader.Inputs(
          name, np.append(words, text.eos_id).astype(np.int32)))
    else:
      frames = 1 if number % 4 == 1 else rng.integers(*FRAMES, endpoint=True)
      found.append(reader.Inputs(name, None, rng.integers(
          0, 256, (frames, side, side, 3), np.uint8)))
  return found


def kind(inputs):
  """What the baseline batches apart: texts, and what is seen."""
  return inputs.tokens is None


def length(inputs):
  """What the baseline sorts by, tokens or frames."""
  return len(inputs.tokens if inputs.pixels is None else inputs.pixels)


def counts(config, inputs):
  """{'tokens', 'frames', 'flops'} of items; FLOPs of matrix products."""
  texts = [len(one.tokens) for one in inputs if one.pixels is None]
  frames = sum(len(one.pixels) for one in inputs if one.tokens is None)
  v, patch = config.vision, 3 * config.vision.patch_px ** 2
  seen = (_tower(v.encoder, v.n_tokens)
          + 2 * v.grid ** 2 * patch * v.encoder.width
          + 2 * v.encoder.width * config.width)
  return {
      'tokens': sum(texts), 'frames': frames,
      'flops': frames * seen + sum(
          _tower(config.text.encoder, n)
          + 2 * config.text.encoder.width * config.width for n in texts)}


def _tower(c, tokens):
  products = 4 * c.width ** 2 + 2 * c.width * c.mlp_width
  return c.layers * tokens * (2 * products + 4 * tokens * c.width)


def peak(config):
  """(sizes, dtype) of a matrix product as the model has them."""
  c = config.vision.encoder
  return (2048, c.width, c.mlp_width), c.dtype


def torch_model(config, params):
  """The baseline; see torch_clip."""
  from jaxret.bench import torch_clip
  return torch_clip.Model(config, params)
