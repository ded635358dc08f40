"""UNITE: trained in two stages and evaluated on shapes world; on benchmarks.

Variants: (none), folder, folder_2b; stage1, stage2, stage1_7b, stage2_7b: the
published recipes; the name of a benchmark: the published weights on it.
"""
from ml_collections import ConfigDict

from configs import common, sizes

QWEN2_VL = 'Qwen/Qwen2-VL-{}-Instruct'
BASE = 'friedrichor/Unite-Base-Qwen2-VL-{}'  # the result of stage 1, merged
INSTRUCT = 'friedrichor/Unite-Instruct-Qwen2-VL-{}'
RECIPES = ('stage1', 'stage2', 'stage1_7b', 'stage2_7b')
# Those that stage 2 is for are evaluated with its weights.
BENCHMARKS = {
    'flickr30k': BASE, 'mscoco': BASE, 'msrvtt_1ka': BASE, 'msvd': BASE,
    'didemo': BASE, 'sharegpt4v': BASE, 'urban1k': BASE, 'docci': BASE,
    'carebench': BASE, 'webvid_covr': INSTRUCT, 'mmeb': INSTRUCT}
CROSS_MODAL = ('text_to_video', 'text_to_image', 'text_to_text')
COMPOSED = ('image_text_to_image', 'video_text_to_video')


def get_config(variant=''):
  known = ('', 'folder', 'folder_2b', *RECIPES, *BENCHMARKS)
  if variant not in known:
    raise ValueError(f'configs/unite.py has no variant {variant!r}: use one of '
                     f'{", ".join(known[1:])}, or none')
  config = common.base('unite')
  config.update(sizes.tiny_qwen2_vl())
  config.update(common.embedding(), before=(), compare=())
  config.eval = common.embedding_evaluation()
  config.optim.update(common.optim(2e-3), warmup_epochs=0.1,
                      gradient_clip_norm=1.0)
  if variant in RECIPES:
    recipe(config, *variant.partition('_')[::2])
  elif variant == 'folder':
    own_media(config)
  elif variant:
    published(config, variant)
  else:
    shapes_world(config)
  return config


def shapes_world(config):
  """Stage 1 on text with each modality, stage 2 on all tasks, and MAMCL."""
  config.data.images = {'train': 400, 'validation': 70, 'test': 80}
  config.data.renderings = 3
  config.loss.modality_mask, config.before = True, ('stage1',)
  config.train.update(batch_size=64, steps=300)
  config.pairs.update(
      sources=('text_to_video', 'video_to_text', 'text_to_image',
               'image_to_text', 'text_to_text', *COMPOSED),
      weights=(2.0, 2.0, 1.0, 1.0, 0.5, 2.0, 3.0))
  config.stage1 = ConfigDict({
      'loss': {'modality_mask': False, 'dual': True},
      'train': {'steps': 600}, 'pairs': {
          'sources': CROSS_MODAL, 'weights': (3.0, 1.0, 0.5),
          'per_source': True}})
  # The same budget without the mask, to compare.
  config.compare = ('plain',)
  config.plain = ConfigDict({'loss': {'modality_mask': False}})


def own_media(config):
  """The media and captions.json in data.root; the tiny model learns them."""
  config.data.update(name='folder', train_on_all=True)
  config.eval.benchmarks = ('folder',)
  config.loss.update(modality_mask=True)
  config.train.update(batch_size=8, epochs=60.0)


def published(config, name):
  """Published weights as they are on a benchmark, or on a folder."""
  sizes.full_qwen2_vl(config)
  config.task, config.eval.max_tokens = 'evaluate', 16384
  config.model.pretrained = BENCHMARKS.get(name, BASE).format('2B')
  config.data.name = 'folder' if name == 'folder_2b' else 'pairs'
  config.eval.benchmarks = (config.data.name if name == 'folder_2b' else name,)


def recipe(config, stage, size):
  """The authors' training, 64 GPUs' global batch, from JSON in data.root."""
  sizes.full_qwen2_vl(config)
  first = stage == 'stage1'
  config.model.pretrained = (QWEN2_VL if first else BASE).format(
      size.upper() or '2B')
  config.model.lora.alpha = 16 if first else 64
  config.data.update(name='pairs', pairs=(f'{stage}.json',),
                     shape=(2048, 2, 5120))
  config.loss.update(dual=first, modality_mask=not first)
  config.optim.update(learning_rate=1e-4 if first else 2e-5,
                      betas=(0.9, 0.999), warmup_epochs=0.03,
                      gradient_clip_norm=1.0)
  config.train.update(batch_size=1024 if size else 4096, epochs=1.0,
                      accumulation_steps=64, checkpoint_every_steps=50)
  config.eval.benchmarks = ()  # later, with task=evaluate
