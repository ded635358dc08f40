"""MM-Embed: the whole pipeline on shapes world; its recipes; published weights.

Variants: (none); random, hard, continual: stages of the published training,
task=mine after the first; mbeir, beir, circo: the published weights on these.
"""
from configs import mm_embed_fields, mm_embed_shapes

LLAVA = 'llava-hf/llava-v1.6-mistral-7b-hf'
RECIPES = 'random', 'hard', 'continual'
BENCHMARKS = 'mbeir', 'beir', 'circo'


def get_config(variant=''):
  known = '', *RECIPES, *BENCHMARKS
  if variant not in known:
    raise ValueError(f'configs/mm_embed.py has no variant {variant!r}; there '
                     f'is {", ".join(known[1:])}, and none')
  config = mm_embed_fields.base()
  if not variant:
    mm_embed_shapes.shapes_world(config)
  elif variant in RECIPES:
    recipe(config, variant)
  else:
    full_size(config, 'nvidia/MM-Embed')
    config.task, config.eval.benchmarks = 'evaluate', (variant,)
  return config


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
