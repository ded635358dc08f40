"""Sizes of models: tiny ones trained from scratch, and the published 7B."""
from ml_collections import ConfigDict

from configs import common


def tiny_model():
  """A decoder that is trained from scratch on CPU in minutes."""
  return ConfigDict({
      'pretrained': '', 'tokenizer': '', 'vocab_size': 640, 'width': 128,
      'mlp_width': 256, 'layers': 3, 'heads': 4, 'kv_heads': 2,
      'head_width': 32, 'rope_theta': 1e4, 'norm_eps': 1e-6,
      'tie_embeddings': False, 'visual_width': 96, 'clips': 4,
      'tokens_per_clip': 6, 'dtype': 'float32', 'param_dtype': 'float32',
      'remat': False, 'trainable': ('.*',),
      'lora': {'rank': 0, 'alpha': 32, 'dropout': 0.0, 'targets': ()},
  })


def tiny_vision():
  """A UMT tower, 4 clips of 2 frames: half the cost of the paper's 4."""
  return ConfigDict({
      'pretrained': '', 'clips': 4, 'tokens_per_clip': 6, 'n_frames': 2,
      'image_px': 48, 'patch_px': 8, 'width': 96, 'layers': 2, 'heads': 4,
      'mlp_width': 288, 'table_frames': 2, 'table_grid': 6,
      'dtype': 'float32', 'param_dtype': 'float32', 'remat': False,
  })


def tiny_tower():
  """The dual encoder whose video tower gives the tiny model its features."""
  config = ConfigDict({
      'method': 'dual_encoder',
      'model': {'width': 96, 'mlp_width': 288, 'layers': 2, 'heads': 4,
                'embedding_width': 128, 'dtype': 'float32'},
      'optim': common.optim(2e-3), 'train': common.train()})
  config.optim.update(weight_decay=0.05, warmup_epochs=0.2,
                      gradient_clip_norm=1.0)
  config.train.update(batch_size=32, epochs=5.0)
  return config


def full_size(config):
  """VideoChat-Flash-Qwen2-7B with LoRA, as the authors train it (spec §3)."""
  config.before, config.tower = (), ConfigDict()
  config.data.store_videos = False
  config.model.update(
      pretrained='OpenGVLab/VideoChat-Flash-Qwen2-7B_res448',
      # As in its own config.json, which is read where weights are.
      vocab_size=152064, width=3584, mlp_width=18944, layers=28, heads=28,
      kv_heads=4, head_width=128, rope_theta=1e6, tokens_per_clip=64,
      visual_width=1024, dtype='bfloat16', param_dtype='bfloat16', remat=True,
      trainable=('lora/.*', 'params/visual_head/.*'))
  config.model.lora.update(
      rank=8, alpha=32, dropout=0.05, targets=(
          'decoder/layers/attention/[qkvo]', 'decoder/lm_head',
          'projector/(vtg|tvg)/(in|out)'))
  config.vision.update(
      tokens_per_clip=64, n_frames=4, image_px=448, patch_px=16, width=1024,
      layers=23, heads=16, mlp_width=4096, table_frames=4, table_grid=14,
      dtype='bfloat16', param_dtype='bfloat16')
  config.mesh.update(data=-1, fsdp=-1)
  config.plan.topology = 'v5e:4x4,v5p:2x2x2'
