"""Models that continue prompts, small and random, and what they are given."""
import functools
import tempfile

import jax
import numpy as np

from jaxret import generator, sharding
from jaxret.data import text
from jaxret.data.qwen2_vl import continuations as qwen2_vl_reader
from jaxret.data.qwen2_vl import pixels as pixels_lib
from jaxret.data.qwen2_vl import prompts
from jaxret.models import decoder
from jaxret.models.qwen2_vl import model as qwen2_vl_model
from jaxret.models.qwen2_vl import vision

TEXTS = ('a dog runs on the grass', 'a cat sleeps on the sofa', 'yes', 'no',
         'two dogs run', 'Is there a dog? Answer yes or no:', 'system',
         'You are a helpful assistant.', 'user', 'assistant', 'a photo of')
RESOLUTION = pixels_lib.Resolution(
    False, (784, 56 * 56), (784, 56 * 56), (784, 56 * 56), n_frames=4)


def pixels(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def prefixes():
  """Texts, images, a video and mixtures, of several buckets."""
  return ['a dog', 'two cats on the grass', 'yes or no? The answer is',
          {'image': pixels(0, 56, 56)},
          {'image': pixels(1, 56, 28), 'text': 'a photo of a'},
          {'image': pixels(2, 56, 56), 'text': 'a photo of a'},
          {'text': 'Here <|IMAGE|> is a dog,', 'image': pixels(3, 28, 56)},
          {'video': pixels(4, 4, 56, 56), 'text': 'They run'},
          {'video': pixels(5, 4, 28, 28), 'image': pixels(6, 28, 28),
           'text': '<|VIDEO|> and <|IMAGE|>: a'}]


SUFFIXES = (' dog', ' dogs', ' dog runs on the grass', ' dog runs on the sofa',
            ' dog sleeps', 'yes', 'no', '\n', ' and two cats <|im_end|>')


@functools.cache
def tokenizer():
  with tempfile.TemporaryDirectory() as directory:
    return text.train_tokenizer(
        TEXTS, 340, f'{directory}/tokenizer', prompts.CONTROL_TOKENS)


def spread(params, seed=0):
  """The same shapes with larger values, so that likelihoods differ."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1) * (
      rng.normal(size=leaf.shape).astype(np.float32)), params)


def qwen2_vl(mesh=None):
  sizes = decoder.DecoderConfig(
      tokenizer().vocab_size, 32, 48, 2, 4, 2, 8, rope_sections=(1, 1, 2))
  tower = vision.VisionConfig(32, width=16, layers=1, heads=2, mlp_width=32)
  config = qwen2_vl_model.Qwen2VlConfig(sizes, tower, 'mrope')
  params = spread(jax.jit(functools.partial(qwen2_vl_model.init, config))(
      jax.random.key(0)))
  return generator.Generator(
      config, params, qwen2_vl_reader.open_reader(
          config, tokenizer(), resolution=RESOLUTION),
      mesh or sharding.make_mesh(devices=jax.devices()[:1]))
