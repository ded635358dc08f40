"""Models that continue prompts, small and random, and what they are given."""
import functools
import shutil
import tempfile

import jax
import numpy as np

from jaxret import generator, sharding
from jaxret.data import text, types
from jaxret.data.llava import continuations as llava_reader
from jaxret.data.llava import prompts as llava_prompts
from jaxret.data.qwen2_vl import continuations as qwen2_vl_reader
from jaxret.data.qwen2_vl import pixels as pixels_lib
from jaxret.data.qwen2_vl import prompts
from jaxret.data.videochat import continuations as videochat_reader
from jaxret.models import clip, decoder, encoder
from jaxret.models.llava import model as llava_model
from jaxret.models.qwen2_vl import model as qwen2_vl_model
from jaxret.models.qwen2_vl import vision
from jaxret.models.videochat import generator as videochat_generator
from jaxret.models.videochat import vision as video_tower

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
          {'video': pixels(5, 2, 28, 28), 'image': pixels(6, 28, 28),
           'text': '<|VIDEO|> and <|IMAGE|>: a'}]


SUFFIXES = (' dog', ' dogs', ' dog runs on the grass', ' dog runs on the sofa',
            ' dog sleeps', 'yes', 'no', '\n', ' and two cats <|im_end|>')


@functools.cache
def tokenizer(control=prompts.CONTROL_TOKENS):
  with tempfile.TemporaryDirectory() as directory:
    return save_tokenizer(directory, control)


def save_tokenizer(directory, control=prompts.CONTROL_TOKENS):
  """Trains one, and lays its files into a directory as a model has them."""
  found = text.train_tokenizer(
      TEXTS, 340, f'{directory}/tokenizer', control)
  for file in ('tokenizer.json', 'tokenizer_config.json'):
    shutil.move(f'{directory}/tokenizer/{file}', f'{directory}/{file}')
  return found


def spread(params, seed=0):
  """The same shapes with larger values, so that likelihoods differ."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1) * (
      rng.normal(size=leaf.shape).astype(np.float32)), params)


def made(config, init, reader, mesh=None):
  params = spread(jax.jit(init)(jax.random.key(0)))
  return generator.Generator(
      config, params, reader,
      mesh or sharding.make_mesh(devices=jax.devices()[:1]))


def sizes_of(tokenizer, **more):
  return decoder.DecoderConfig(
      tokenizer.vocab_size, 32, 48, 2, 4, 2, 8, **more)


def qwen2_vl(mesh=None):
  sizes = sizes_of(tokenizer(), rope_sections=(1, 1, 2))
  tower = vision.VisionConfig(32, width=16, layers=1, heads=2, mlp_width=32)
  config = qwen2_vl_model.Qwen2VlConfig(sizes, tower, 'mrope')
  return made(config, functools.partial(qwen2_vl_model.init, config),
              qwen2_vl_reader.open_reader(
                  config, tokenizer(), resolution=RESOLUTION), mesh)


def llava():
  """It reads tiles of 8 pixels; of images alone."""
  words = tokenizer(llava_prompts.CONTROL_TOKENS)
  tower = clip.ClipVisionConfig(
      encoder.EncoderConfig(16, 24, 1, 2, 'quick_gelu'), 8, 4)
  config = llava_model.LlavaNextConfig(
      sizes_of(words, qkv_bias=False), tower, pinpoints=((8, 16), (16, 8)))
  return made(config, functools.partial(llava_model.init, config),
              llava_reader.open_reader(config, words))


def videochat():
  """It sees two clips of two frames, two tokens each."""
  tower = video_tower.VisionConfig(
      image_px=8, patch_px=4, width=16, layers=1, heads=2, mlp_width=24,
      n_frames=2)
  config = videochat_generator.GeneratorConfig(
      sizes_of(tokenizer()), tower, 16, 2, 2)
  return made(config, functools.partial(videochat_init, config),
              videochat_reader.open_reader(config, tokenizer()))


def videochat_init(config, key):
  features = np.zeros((1, 1, 1, config.visual_width), np.float32)
  whole = config.module().init(key, features, np.full((1, 2), types.VISUAL))
  px, tower = config.vision.image_px, video_tower.VisionTower(config.vision)
  pixel_values = np.zeros((1, config.vision.n_frames, px, px, 3), np.float32)
  return {'params': {**whole['params'], 'vision': tower.init(
      key, pixel_values)['params']}}


def qwen2():
  """It reads text alone."""
  config = videochat_generator.GeneratorConfig(sizes_of(tokenizer()))
  def init(key):
    return {'params': {'decoder': decoder.Decoder(config.decoder).init(
        key, np.zeros((1, 1), np.int32),
        method=videochat_generator.touched)['params']}}
  return made(config, init, videochat_reader.open_reader(config, tokenizer()))
