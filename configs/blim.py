"""BLiM: trained and evaluated on shapes world; on a folder; on benchmarks.

Variants: (none), folder, folder_7b, didemo, activitynet, lsmdc, msrvtt. The
first two run on any machine; the others, the 7B, on a TPU slice v5e:4x4 or
v5p:2x2x2 at least, which --config.task=plan compiles for.
"""
from configs import common, planning, sizes

# The authors' recipes: rate, epochs, global batch, accumulation, alpha (text
# to video, video to text), c, and both for zero-shot scoring.
RECIPES = {
    'didemo': (2e-4, 5, 32, 1, (0.0, 0.8), (0.9, 0.2, 0.9, 0.9),
               (0.0, 0.9), (1.0, 0.0, 0.9, 0.9)),
    'activitynet': (2e-4, 5, 32, 2, (0.2, 0.9), (1.0, 0.4, 0.9, 0.8),
                    (0.0, 0.9), (1.0, 0.0, 0.9, 0.8)),
    'lsmdc': (1e-4, 3, 256, 8, (0.2, 1.0), (1.0, 0.6, 0.9, 0.6),
              (0.0, 0.9), (1.0, 0.0, 0.9, 0.8)),
    'msrvtt': (1e-4, 3, 512, 16, (0.0, 0.9), (1.0, 0.6, 0.8, 0.4),
               (0.0, 0.8), (1.0, 0.0, 0.8, 0.6)),
}


def get_config(variant=''):
  if variant not in ('', 'folder', 'folder_7b', *RECIPES):
    raise ValueError(f'configs/blim.py has no variant {variant!r}: use one of '
                     f'folder, folder_7b, {", ".join(RECIPES)}, or none')
  config = common.base('blim')
  config.model = sizes.tiny_model()
  config.vision = sizes.tiny_vision()
  config.eval = common.evaluation()
  config.optim = common.optim(2e-3)
  config.optim.update(weight_decay=0.05, warmup_epochs=0.2,
                      gradient_clip_norm=1.0)
  config.train.update(batch_size=32, epochs=4.0)
  config.data.sizes.train = 2000
  config.before = ('tower',)
  config.tower = sizes.tiny_tower()
  if variant == 'folder':
    own_clips(config)
    config.tower.train.update(batch_size=8, epochs=60.0)
  elif variant:
    sizes.full_size(config)
    if variant in RECIPES:
      benchmark(config, variant)
      planning.benchmark(config, variant)
    else:
      own_clips_7b(config)
  return config


def own_clips(config):
  """The clips and captions.json in data.root; the tiny model learns them."""
  config.data.update(name='folder', train_on_all=True, store_videos=False)
  config.eval.splits = ('test',)
  config.train.update(batch_size=8, epochs=60.0)


def own_clips_7b(config):
  """The same by the published 7B as it is, without training."""
  own_clips(config)
  config.task, config.eval.zero_shot = 'evaluate', True
  config.data.train_on_all = False


def benchmark(config, name):
  """A benchmark from the authors' files in data.root, by their recipe."""
  (rate, epochs, batch, accumulation, alpha, c, zero_shot_alpha,
   zero_shot_c) = RECIPES[name]
  config.data.update(name=name, validation_fraction=0.02,
                     limit_s=30.0 if name == 'didemo' else 0.0)
  config.optim.update(learning_rate=rate, weight_decay=1.0,
                      warmup_epochs=1.0, gradient_clip_norm=0.0)
  config.train.update(batch_size=batch, epochs=float(epochs),
                      accumulation_steps=accumulation)
  config.eval.update(alpha=alpha, c=c, zero_shot_alpha=zero_shot_alpha,
                     zero_shot_c=zero_shot_c)
