"""A tiny UNITE: its config, tokenizer and training pairs, for tests."""
import functools
import tempfile
from typing import NamedTuple

import numpy as np

from configs import unite as unite_config
from jaxret.data import text, types
from jaxret.data.qwen2_vl import prompts as unite_prompts

# Of a Qwen2-VL that compiles fast.
SIZES = {
    'model.width': 16, 'model.mlp_width': 32, 'model.layers': 2,
    'model.heads': 2, 'model.kv_heads': 1, 'model.head_width': 8,
    'model.rope_sections': (1, 1, 2), 'model.vocab_size': 0,
    'vision.width': 16, 'vision.layers': 1, 'vision.heads': 2,
    'vision.mlp_width': 32}
WORDS = ('red', 'blue', 'square', 'circle', 'moves', 'left', 'right', 'up')


class Pair(NamedTuple):
  query: types.Item
  candidate: types.Item
  target_modality: str | None = None
  negative: types.Item | None = None


def make_config(**loss):
  """Everything that methods.unite reads, at a size that compiles fast."""
  config = unite_config.base()
  config.update_from_flattened_dict(SIZES)
  config.media.update(fps=2.0, max_frames=4, n_frames=0)
  config.data.max_tokens = 160
  config.optim.update(learning_rate=0.01)
  config.train.update(batch_size=8, epochs=2.0, log_every_steps=1,
                      checkpoint_every_steps=100, keep_checkpoints=1)
  config.loss.update({'temperature': 0.1, **loss})
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
