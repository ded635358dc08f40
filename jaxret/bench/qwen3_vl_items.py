"""A Qwen3-VL of the embedding bench, and its items, as in `multimodal`."""
import functools

import jax
import numpy as np

from jaxret import sharding
from jaxret.bench import multimodal
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import reader
from jaxret.models import decoder
from jaxret.models.qwen3_vl import model as qwen3_vl
from jaxret.models.qwen3_vl import vision

TIME_TOKENS = 6  # before every temporal patch of a video: <1.5 seconds>
PATCH_VALUES = 3 * 2 * 16 ** 2

PRESETS = {
    'tiny': multimodal.Preset(qwen3_vl.Qwen3VlConfig(
        decoder.DecoderConfig(640, 64, 128, 2, 4, 2, 32, 1e4,
                              rope_sections=(6, 5, 5), rope_interleaved=True,
                              qkv_bias=False, qk_norm=True,
                              tie_embeddings=True),
        vision.VisionConfig(64, width=48, layers=2, heads=2, mlp_width=64,
                            positions=16, deepstack=(0,))),
                              (1, 4), 256, 32, 32),
    '50m': multimodal.Preset(qwen3_vl.Qwen3VlConfig(
        decoder.DecoderConfig(16384, 512, 2048, 8, 8, 2, 64, 5e6,
                              rope_sections=(12, 10, 10), rope_interleaved=True,
                              qkv_bias=False, qk_norm=True,
                              tie_embeddings=True),
        vision.VisionConfig(512, width=320, layers=8, heads=8, mlp_width=1280,
                            positions=256, deepstack=(2, 4, 6))),
                             (3, 12), 64, 16, 8),
}
kind, length = multimodal.kind, multimodal.length
counts, peak = multimodal.counts, multimodal.peak


def init_params(config, mesh):
  """Random parameters {'params': ...} on the mesh."""
  make = functools.partial(qwen3_vl.init, config, head=False)
  places = sharding.shardings(mesh, jax.eval_shape(make, jax.random.key(0)))
  return jax.jit(make, out_shardings=places)(jax.random.key(0))


class Ready(multimodal.Ready):
  """A methods.base.Reader of items that were read before, by their id."""

  def pad(self, inputs, shape):
    return reader.pad(inputs, inputs_lib.Shape(*shape), self.special)


def mixed(preset, count, seed=0):
  """Texts, images, images with text and videos in turn, of mixed sizes."""
  rng = np.random.default_rng(seed)
  return [_sliced(preset.config, rng, one)
          for one in multimodal.mixed(preset, count, seed, PATCH_VALUES)]


def _sliced(config, rng, inputs):
  """Inputs whose temporal patches are media of their own, a time before each.
  """
  kinds, grids = reader.sliced(inputs.kinds, inputs.grids)
  if 'video' not in kinds:
    return inputs
  seen = inputs.tokens == multimodal.special(config)['video']
  first, behind = np.flatnonzero(seen)[[0, -1]] + (0, 1)
  parts = [inputs.tokens[:first]]
  for slice_tokens in np.split(inputs.tokens[first:behind], len(grids)):
    parts += [rng.integers(0, config.decoder.vocab_size - 2, TIME_TOKENS),
              slice_tokens]
  return inputs._replace(
      tokens=np.concatenate([*parts, inputs.tokens[behind:]]).astype(np.int32),
      kinds=kinds, grids=grids)


def torch_model(config, params):
  """The baseline; see torch_qwen3_vl."""
  from jaxret.bench import torch_qwen3_vl
  return torch_qwen3_vl.Model(config, params, multimodal.special(config))
