"""A tiny UNITE: its config, tokenizer and training pairs, for tests."""
import functools
import tempfile
from typing import NamedTuple

import ml_collections
import numpy as np

from jaxret.data import text, types, unite_prompts

TOKEN = 28 * 28
WORDS = ('red', 'blue', 'square', 'circle', 'moves', 'left', 'right', 'up')


class Pair(NamedTuple):
  query: types.Item
  candidate: types.Item
  target_modality: str | None = None
  negative: types.Item | None = None


def make_config(**loss):
  """Everything that methods.unite reads, at a size that compiles fast."""
  config = ml_collections.ConfigDict({
      'method': 'unite', 'seed': 0, 'init_from': '',
      'model': {
          'pretrained': '', 'tokenizer': '', 'vocab_size': 0, 'width': 16,
          'mlp_width': 32, 'layers': 2, 'heads': 2, 'kv_heads': 1,
          'head_width': 8, 'rope_theta': 1e4, 'rope_sections': (1, 1, 2),
          'norm_eps': 1e-6, 'tie_embeddings': True,
          'position_mode': 'sequential', 'dtype': 'float32',
          'param_dtype': 'float32', 'remat': False, 'trainable': ('.*',),
          'lora': {'rank': 0, 'alpha': 16, 'dropout': 0.0, 'targets': ()}},
      'vision': {'width': 16, 'layers': 1, 'heads': 2, 'mlp_width': 32},
      'media': {
          'released': False, 'read_image': (TOKEN, 4 * TOKEN),
          'read_video': (TOKEN, 4 * TOKEN), 'processor': (TOKEN, 4 * TOKEN),
          'fps': 2.0, 'min_frames': 2, 'max_frames': 4, 'n_frames': 0},
      'data': {'max_tokens': 160},
      'loss': {'temperature': 0.1, 'dual': False, 'modality_mask': False,
               'multi_positive': False, 'released': True},
      'optim': {'learning_rate': 0.01, 'betas': (0.9, 0.95), 'eps': 1e-8,
                'weight_decay': 0.0, 'warmup_epochs': 0.1,
                'min_learning_rate': 0.0, 'gradient_clip_norm': 1.0},
      'train': {'batch_size': 8, 'epochs': 2.0, 'accumulation_steps': 1,
                'log_every_steps': 1, 'checkpoint_every_steps': 100,
                'keep_checkpoints': 1}})
  config.loss.update(loss)
  return config


def with_lora(config, dropout=0.0):
  """LoRA on the decoder's linears, all else frozen, as UNITE trains."""
  config.model.trainable = ('lora/.*',)
  config.model.lora.update(
      rank=2, dropout=dropout,
      targets=('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',))
  return config


@functools.cache
def tokenizer():
  prompts = [unite_prompts.summary_prompt('', (name,))
             for name in unite_prompts.CODES]
  captions = [' '.join(WORDS[i:i + 3]) for i in range(6)]
  return text.train_tokenizer(
      captions, 400, f'{tempfile.mkdtemp()}/tokenizer',
      unite_prompts.CONTROL_TOKENS, prompts)


def pixels(seed, height=40, width=56, frames=0):
  shape = (height, width, 3)
  return np.random.default_rng(seed).integers(
      0, 256, (frames, *shape) if frames else shape, np.uint8)


def item(kind, number):
  """An item of one of four kinds, unlike any of another number."""
  words = ' '.join(WORDS[(number + i) % len(WORDS)] for i in range(3))
  name = f'{kind}{number}'
  return {
      'text': types.Item(name, text=words),
      'image': types.Item(name, image=pixels(number)),
      'video': types.Item(name, video=pixels(number, 28, 56, 3)),
      'image,text': types.Item(name, text=words, image=pixels(number),
                               order=('image', 'text'))}[kind]


def pairs(count, negatives=False):
  """Pairs with every kind of query and three target modalities."""
  kinds = (('text', 'image'), ('image', 'text'), ('image,text', 'video'),
           ('text', 'video'))
  made = []
  for number in range(count):
    query, target = kinds[number % len(kinds)]
    made.append(Pair(
        item(query, number), item(target, number + 100), target,
        item(target, number + 200) if negatives else None))
  return made
