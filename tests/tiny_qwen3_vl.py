"""A tiny Qwen3-VL at random, for tests."""
import dataclasses
import functools

import jax
import numpy as np

from jaxret.data import types
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pixels, reader
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen3_vl import model as model_lib
from jaxret.models.qwen3_vl import vision as vision_lib
from tests import tiny_unite

TOKEN = 32 * 32
RESOLUTION = pixels.Resolution(
    image=(TOKEN, 6 * TOKEN), frame=(TOKEN, 4 * TOKEN), listed_px=32)
CONFIG = model_lib.Qwen3VlConfig(
    decoder_lib.DecoderConfig(
        vocab_size=400, width=16, mlp_width=24, layers=3, heads=4, kv_heads=2,
        head_width=12, rope_theta=100.0, rope_sections=(2, 2, 2),
        rope_interleaved=True, qkv_bias=False, qk_norm=True,
        tie_embeddings=True),
    vision_lib.VisionConfig(
        out_width=16, width=16, layers=3, heads=2, mlp_width=24, positions=16,
        deepstack=(0, 2)))


def with_numerics(config, **fields):
  """The config with fields of both parts replaced."""
  return dataclasses.replace(
      config, decoder=dataclasses.replace(config.decoder, **fields),
      vision=dataclasses.replace(config.vision, **fields))


@functools.cache
def params(config=CONFIG, seed=0):
  """{'params': ...}; what starts at zero or one is moved from there."""
  made = jax.jit(functools.partial(model_lib.init, config))(
      jax.random.key(seed))
  leaves, tree = jax.tree.flatten(made)
  rng = np.random.default_rng(seed)
  return jax.tree.unflatten(tree, [
      leaf + 0.1 * rng.normal(size=leaf.shape).astype(leaf.dtype)
      for leaf in leaves])


def make_reader(**options):
  return reader.Reader(tiny_unite.tokenizer(), RESOLUTION, **options)


def items():
  """Eight items of every kind, small."""
  found = []
  for number in range(8):
    words = ' '.join(tiny_unite.WORDS[number:number + 2]) or 'up'
    kind = number % 4
    found.append(types.Item(
        f'item {number}', text=words if kind != 1 else None,
        image=tiny_unite.pixels(number) if kind in (1, 3) else None,
        video=tiny_unite.pixels(number, 64, 64, 5) if kind == 2 else None))
  return found


@functools.cache
def batch():
  """The items padded to one shape."""
  read = make_reader()
  inputs = [read(item) for item in items()]
  return read.pad(inputs, inputs_lib.common_shape(map(read.bucket, inputs)))
