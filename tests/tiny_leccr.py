"""LECCR as a method, of letters and noise, small enough for a test."""
import types

import ml_collections
import numpy as np

from jaxret import main
from jaxret.data import types as data_types
from jaxret.data.sets import nrccr as parallel
from jaxret.methods.leccr import method as leccr
from tests import tiny_cross_lingual

BRANCHES = ('image', 'video')
PX, WIDTH = 16, 16
NO_DECAY = tuple(main.load_config(
    str(tiny_cross_lingual.CONFIG)).optim.no_decay)


def make_config(branch, preset='corrected', **model):
  video = branch == 'video'
  return ml_collections.ConfigDict({
      'method': 'leccr', 'seed': 0, 'mesh': {'data': -1},
      'recipe': {'preset': preset, 'gpus': 2},
      'loss': {'softened_weight': 0.5, 'softened_alpha': 0.8,
               'slot_weight': 0.01, 'regularization_weight': 0.01,
               'description_weight': 0.01},
      'data': {'augment': not video},
      'model': {
          'text_pretrained': '', 'vision_pretrained': '',
          'text': {'width': 8, 'mlp_width': 16, 'layers': 1, 'heads': 2,
                   'max_tokens': 12},
          'vision': {'width': 8, 'mlp_width': 16, 'layers': 1, 'heads': 2,
                     'patch_px': 8},
          'image_px': PX, 'visual_width': WIDTH, 'embedding_width': 8,
          'slots': 2, 'reader_layers': 2, 'interaction_layers': 1,
          'frame_layers': 1 if video else 0, 'temperature': 0.07,
          'dropout': 0.1, 'dtype': 'float32', 'param_dtype': 'float32',
          'remat': 'none', **model},
      'optim': {'learning_rate': 3e-3, 'betas': (0.9, 0.98), 'eps': 1e-8,
                'weight_decay': 0.01, 'schedule': 'linear',
                'warmup_fraction': 0.1, 'no_decay': NO_DECAY,
                'gradient_clip_norm': 0.0},
      'train': {'batch_size': 8, 'epochs': 0.0, 'steps': 12,
                'accumulation_steps': 1, 'log_every_steps': 4,
                'checkpoint_every_steps': 12, 'keep_checkpoints': 1}})


def encode(text):
  """One id per letter between a start and an end, cut to ten."""
  return [1, *(3 + ord(letter) % 16 for letter in text[:8]), 2]


TOKENIZER = types.SimpleNamespace(encode=encode, vocab_size=20)


class Visuals:
  """Noise that is the same for the same index; videos of unlike lengths."""

  def __init__(self, branch, count):
    self._branch, self._count, self.longest = branch, count, 4

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    random = np.random.default_rng(index)
    if self._branch == 'image':
      return random.integers(0, 256, (1, PX, PX, 3), np.uint8)
    return random.normal(size=(1 + index % 4, WIDTH)).astype(np.float32)


def make_split(n_visuals=7, n_texts=13, translated=True):
  """Texts of letters; several may belong to one visual."""
  owner = (np.arange(n_texts) % n_visuals).astype(np.int32)
  def items(kind):
    return tuple(data_types.Item(f'{v}#{kind}#{i}', text=f'{kind}{v}{i}{v}')
                 for i, v in enumerate(owner))
  return parallel.ParallelSplit(
      'letters', 'train' if translated else 'test',
      tuple(data_types.Item(str(v)) for v in range(n_visuals)), items('en'),
      owner, items('de') if translated else (),
      tuple(f'shows {v}' for v in range(n_visuals)))


def examples_of(method, branch, config):
  """Of a whole split, with the weights of the loss in `config`."""
  split = make_split()
  return method.examples(split, Visuals(branch, len(split.videos)),
                         leccr.loss_weights(config.loss))


def batch_of(examples, size):
  rows = [examples[i] for i in range(size)]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
