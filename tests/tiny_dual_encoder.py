"""A tiny CLIP and SigLIPs at random, opened for tests."""
import functools

import jax
import numpy as np

from jaxret import embedder, sharding
from jaxret.data.dual_encoder import pixels, reader
from jaxret.models import clip, encoder
from jaxret.models.dual_encoder import model as model_lib
from tests import tiny_unite

SIDE, PATCH = 8, 4


class Tokenizer:
  """One token per letter, an end behind a text."""
  pad_id, end_id, vocab_size = 0, 1, 40
  added = (2,), (1,)

  def encode(self, text):
    return [3 + ord(letter) % 36 for letter in text]


def tower(width=16, activation='gelu_pytorch_tanh'):
  return encoder.EncoderConfig(width, 24, 2, 2, activation)


def processor(**fields):
  return model_lib.Processor(**{
      'size': (SIDE, SIDE), 'crop': None, 'resample': 2, 'mean': (0.5,) * 3,
      'std': (0.5,) * 3, **fields})


def config(name='siglip', **fields):
  if name == 'clip':
    return model_lib.DualEncoderConfig(
        name, clip.ClipVisionConfig(tower(), SIDE, PATCH),
        clip.ClipTextConfig(tower(12, 'quick_gelu'), 40, 20,
                            fields.get('eos_id', 1)),
        10, processor(size=SIDE, crop=(SIDE, SIDE), resample=3))
  flexible = name == 'siglip2'
  return model_lib.DualEncoderConfig(
      name, model_lib.SiglipVisionConfig(
          tower(), None if flexible else fields.get('image_px', SIDE), PATCH,
          3 if flexible else SIDE // PATCH),
      model_lib.SiglipTextConfig(tower(8), 40, 12), 16,
      processor(size=None, patch_px=PATCH, max_patches=9) if flexible
      else processor(size=(fields.get('image_px', SIDE),) * 2))


@functools.cache
def params(one):
  """{'params': ...}; what starts at zero or one is moved from there."""
  made = jax.jit(functools.partial(model_lib.init, one))(jax.random.key(0))
  leaves, tree = jax.tree.flatten(made)
  rng = np.random.default_rng(0)
  return jax.tree.unflatten(tree, [
      leaf + 0.2 * rng.normal(size=leaf.shape).astype(leaf.dtype)
      for leaf in leaves])


def make_reader(one, tokenizer=None, **options):
  return reader.Reader(one, tokenizer or Tokenizer(), **options)


def model(name='siglip', devices=1, **options):
  one = config(name)
  return embedder.Embedder(
      one, params(one), make_reader(one, **options),
      sharding.make_mesh(devices=jax.devices()[:devices]))


def items():
  """Four texts, images and videos of many sizes."""
  rng = np.random.default_rng(0)
  found = ['a dog', 'up', '', 'A Dog']
  for number in range(4):
    height, width = rng.integers(5, 30, 2)
    found.append({'image': tiny_unite.pixels(number, height, width)})
    found.append({'video': tiny_unite.pixels(
        number, height, width, 5)})
  return found


RESOLUTION = pixels.Resolution(max_frames=5)
