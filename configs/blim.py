"""BLiM: trained and evaluated on shapes world; on a folder; on benchmarks.

Variants: (none), folder, folder_7b, didemo, activitynet, lsmdc, msrvtt.
"""
from ml_collections import ConfigDict

from configs import common

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
  config.model = tiny_model()
  config.vision = tiny_vision()
  config.eval = common.evaluation()
  config.optim = common.optim(2e-3)
  config.optim.update(weight_decay=0.05)
  config.train.update(batch_size=32, epochs=12.0)
  config.before = ('tower',)
  config.tower = tower()
  if variant == 'folder':
    own_clips(config)
  elif variant:
    full_size(config)
    if variant in RECIPES:
      benchmark(config, variant)
    else:
      own_clips(config)
      config.task, config.before = 'evaluate', ()
      config.eval.zero_shot = True
  return config


def own_clips(config):
  """A folder with captions.json; set data.root."""
  config.data.update(name='folder', train_on_all=True, store_videos=False)
  config.eval.splits = ('test',)
  config.train.update(batch_size=8, epochs=60.0)
  config.tower.train.update(batch_size=8, epochs=60.0)


def full_size(config):
  """VideoChat-Flash-Qwen2-7B with LoRA, as the authors train it (spec §3)."""
  config.before, config.tower = (), ConfigDict()
  config.data.store_videos = False
  config.model.update(
      pretrained='OpenGVLab/VideoChat-Flash-Qwen2-7B_res448', vocab_size=0,
      tokens_per_clip=64, visual_width=1024, dtype='bfloat16',
      param_dtype='bfloat16', remat=True,
      trainable=('lora/.*', 'params/visual_head/.*'))
  config.model.lora.update(
      rank=8, alpha=32, dropout=0.05, targets=(
          'decoder/layers/attention/[qkvo]', 'decoder/lm_head',
          'projector/(vtg|tvg)/(in|out)'))
  config.vision.update(
      tokens_per_clip=64, image_px=448, width=1024, layers=23, heads=16,
      mlp_width=4096, table_grid=14, dtype='bfloat16', param_dtype='bfloat16')
  config.mesh.update(data=1, fsdp=-1)


def benchmark(config, name):
  rate, epochs, batch, accumulation, alpha, c, _, _ = RECIPES[name]
  config.data.update(name=name, validation_fraction=0.02,
                     limit_s=30.0 if name == 'didemo' else 0.0)
  config.optim.update(learning_rate=rate, weight_decay=1.0)
  config.train.update(batch_size=batch, epochs=float(epochs),
                      accumulation_steps=accumulation)
  config.eval.update(alpha=alpha, c=c)


def tiny_model():
  return ConfigDict({
      'pretrained': '', 'tokenizer': '', 'vocab_size': 512, 'width': 128,
      'mlp_width': 384, 'layers': 4, 'heads': 4, 'kv_heads': 2,
      'head_width': 32, 'rope_theta': 1e4, 'norm_eps': 1e-6,
      'tie_embeddings': False, 'visual_width': 128, 'clips': 4,
      'tokens_per_clip': 4, 'dtype': 'float32', 'param_dtype': 'float32',
      'remat': False, 'trainable': ('.*',),
      'lora': {'rank': 0, 'alpha': 32, 'dropout': 0.0, 'targets': ()},
  })


def tiny_vision():
  return ConfigDict({
      'pretrained': '', 'clips': 4, 'tokens_per_clip': 4, 'n_frames': 4,
      'image_px': 64, 'patch_px': 16, 'width': 128, 'layers': 3, 'heads': 4,
      'mlp_width': 384, 'table_frames': 4, 'table_grid': 4,
      'dtype': 'float32', 'param_dtype': 'float32', 'remat': False,
  })


def tower():
  """The dual encoder whose video tower gives the tiny model its features."""
  config = ConfigDict({
      'method': 'dual_encoder',
      'model': {'width': 128, 'mlp_width': 384, 'layers': 2, 'heads': 4,
                'embedding_width': 128, 'dtype': 'float32'},
      'optim': common.optim(1e-3), 'train': common.train()})
  config.optim.update(weight_decay=0.05)
  config.train.update(batch_size=64, epochs=12.0)
  return config
