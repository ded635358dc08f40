"""MM-Embed: the whole pipeline on shapes world; its recipes; published weights.

Variants: (none); random, hard, continual: stages of the published training,
task=mine after the first; mbeir, beir, circo: the published weights on these.
"""
from ml_collections import ConfigDict

from configs import mm_embed_fields

LLAVA = 'llava-hf/llava-v1.6-mistral-7b-hf'
RECIPES = 'random', 'hard', 'continual'
BENCHMARKS = 'mbeir', 'beir', 'circo'
# Of shapes world, with their shares in training.
TASKS = {'text_to_image': 3.0, 'image_to_text': 2.0, 'image_text_to_image': 3.0,
         'text_to_text': 0.5, 'image_to_image': 1.5}


def get_config(variant=''):
  known = '', *RECIPES, *BENCHMARKS
  if variant not in known:
    raise ValueError(f'configs/mm_embed.py has no variant {variant!r}; there '
                     f'is {", ".join(known[1:])}, and none')
  config = mm_embed_fields.base()
  if not variant:
    shapes_world(config)
  elif variant in RECIPES:
    recipe(config, variant)
  else:
    full_size(config, 'nvidia/MM-Embed')
    config.task, config.eval.benchmarks = 'evaluate', (variant,)
  return config


def shapes_world(config):
  """Random negatives; hard ones from the same start; then text besides."""
  sizes = mm_embed_fields.splits
  config.data.update(renderings=4, sizes=sizes(1, 1, 1),  # no clips
                     images=sizes(400, 80, 80), texts=sizes(1350, 100, 100))
  # Few shapes: the model compiles longer than padding costs.
  config.data.shape = config.eval.shape = 48, 56
  config.data.candidate_shape = 28, 56
  config.before, config.starts_from = ('random', 'hard'), 'hard'
  pairs = {'sources': tuple(TASKS), 'weights': tuple(TASKS.values())}
  config.hard = ConfigDict({'pairs': pairs, 'train': {'steps': 200}})
  config.random = ConfigDict({**config.hard, 'negatives': ''})
  config.pairs.update(
      sources=(*TASKS, 'texts'), weights=(*TASKS.values(), 6.0),
      per_source=True)  # contrasts no modalities; mined negatives do
  config.negatives, config.optim.learning_rate = 'random', 1.5e-3
  config.train.update(batch_size=64, steps=60)
  config.rerank.update(tasks=('image_text_to_image',), shape=(24, 1, 10, 48, 1),
                       train={'batch_size': 64, 'steps': 150})


def full_size(config, pretrained):
  config.model.update(
      pretrained=pretrained, vocab_size=0, rope_theta=0.0, dtype='bfloat16',
      param_dtype='bfloat16', remat=True)
  config.mesh.update(data=1, fsdp=-1)


def recipe(config, stage):
  """The published stages; the global batch is that of eight GPUs."""
  full_size(config, 'nvidia/NV-Embed-v1')
  config.model.update(llava=LLAVA, tokenizer=LLAVA,
                      trainable=('lora/.*', 'params/projector/.*'))
  config.model.lora.update(rank=8, alpha=64, targets=(
      'decoder/layers/attention/[qkvo]', 'decoder/layers/mlp/(gate|up|down)'))
  config.data.update(name='mbeir', max_tokens=128, shape=(704, 336))
  config.eval.benchmarks = ()  # later, by task=evaluate
  config.optim.learning_rate = 2e-5 if stage == 'continual' else 1e-4
  config.train.update(batch_size=1024, epochs=2.0, accumulation_steps=16)
  if stage != 'random':
    config.negatives = 'workdirs/mm_embed-random/mined'
    config.train.batch_size = 512
  if stage == 'continual':  # batch size and shares of the sets are open
    config.init_from = 'workdirs/mm_embed-hard'
    config.data.update(text_sets=mm_embed_fields.TEXT_SETS,
                       max_tokens=512, shape=(1088, 336))
    config.train.update(epochs=0.0, steps=4500)
