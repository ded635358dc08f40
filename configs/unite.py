"""UNITE: trained in two stages and evaluated on shapes world; on benchmarks.

Variants: (none), folder, folder_2b; stage1, stage2, stage1_7b, stage2_7b, as
published; the name of a benchmark: the published weights on it.
"""
from ml_collections import ConfigDict

from configs import embedding

QWEN2_VL = 'Qwen/Qwen2-VL-{}-Instruct'
BASE = 'friedrichor/Unite-Base-Qwen2-VL-{}'  # the result of stage 1, merged
INSTRUCT = 'friedrichor/Unite-Instruct-Qwen2-VL-{}'
RECIPES = ('stage1', 'stage2', 'stage1_7b', 'stage2_7b')
WEIGHTS = {'webvid_covr': INSTRUCT, 'mmeb': INSTRUCT} | dict.fromkeys((
    'folder_2b', 'flickr30k', 'mscoco', 'msrvtt_1ka', 'msvd', 'didemo',
    'sharegpt4v', 'urban1k', 'docci', 'carebench'), BASE)


def get_config(variant=''):
  known = '', 'folder', *RECIPES, *WEIGHTS
  if variant not in known:
    raise ValueError(f'configs/unite.py has no variant {variant!r}; there is '
                     f'{", ".join(known[1:])}, and none')
  config = embedding.base('unite')
  config.update(embedding.tiny_qwen2_vl())
  if variant in RECIPES:
    recipe(config, *variant.partition('_')[::2])
  elif variant in WEIGHTS:
    published(config, variant)
  elif variant == 'folder':  # the tiny model learns the media in data.root
    config.data.update(name='folder', train_on_all=True)
    config.eval.benchmarks = ('folder',)
    config.train.update(batch_size=8, epochs=60.0)
  else:
    shapes_world(config)
  return config


def shapes_world(config):
  """Stage 1 on text with each modality; stage 2 on all tasks, two losses."""
  config.data.update(
      renderings=3, images={'train': 400, 'validation': 70, 'test': 80})
  config.data.shape = config.eval.shape = (56, 1, 16)  # one compilation
  config.update(before=('stage1',), compare=('plain',), starts_from='stage1')
  config.train.update(batch_size=64, steps=190)
  config.loss.modality_mask = True
  config.plain = ConfigDict({'loss': {'modality_mask': False}})
  config.stage1 = ConfigDict({
      'loss': {'dual': True, 'modality_mask': False}, 'train': {'steps': 240},
      'pairs': {'sources': ('text_to_video', 'text_to_image', 'text_to_text'),
                'weights': (3.0, 1.0, 0.5), 'per_source': True}})
  config.pairs.update(
      sources=('text_to_video', 'video_to_text', 'text_to_image',
               'image_to_text', 'text_to_text', 'image_text_to_image',
               'video_text_to_video'),
      weights=(2.0, 2.0, 1.0, 1.0, 0.5, 2.0, 3.0))


def published(config, name):
  """Published weights as they are, on a benchmark or on own media."""
  embedding.full_qwen2_vl(config, WEIGHTS[name].format('2B'))
  config.task, config.eval.max_tokens = 'evaluate', 16384
  config.data.name = 'folder' if name == 'folder_2b' else 'pairs'
  config.eval.benchmarks = (name.removesuffix('_2b'),)


def recipe(config, stage, size):
  """The authors' training, 64 GPUs' global batch, from JSON in data.root."""
  first = stage == 'stage1'
  embedding.full_qwen2_vl(config, (QWEN2_VL if first else BASE).format(
      size.upper() or '2B'))
  config.model.lora.alpha = 16 if first else 64
  config.data.update(
      name='pairs', pairs=(f'{stage}.json',), shape=(2048, 2, 5120))
  config.loss.update(dual=first, modality_mask=not first)
  config.eval.benchmarks = ()  # later, by task=evaluate
  config.optim.update(learning_rate=1e-4 if first else 2e-5,
                      betas=(0.9, 0.999), warmup_epochs=0.03)
  config.train.update(batch_size=1024 if size else 4096, epochs=1.0,
                      accumulation_steps=64)
