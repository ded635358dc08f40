"""The video towers of BLiM's own model: sections of configs/blim.py."""
from ml_collections import ConfigDict

from configs import common


def vision():
  """A UMT tower, 4 clips of 2 frames: half the cost of the paper's 4."""
  config = common.encoder()
  config.update({
      'clips': 4,  # clips of a video
      'tokens_per_clip': 6,  # features that are left of a clip's patches
      'n_frames': 2,  # frames of a clip
      'image_px': 48,  # side of a frame, pixels
      'patch_px': 8,  # side of a patch, pixels
      'table_frames': 2,  # frames of the position table
      'table_grid': 6,  # patches of a side of the position table
      'dtype': 'float32',  # of computation: 'float32' or 'bfloat16'
      'param_dtype': 'float32'})  # of weights: 'float32' or 'bfloat16'
  return config


def tower():
  """The dual encoder whose video tower gives the tiny model its features."""
  config = ConfigDict({
      'model': {  # its text encoder
          **common.encoder(),
          'embedding_width': 128,  # numbers of an embedding
          'dtype': 'float32'},  # of computation: 'float32' or 'bfloat16'
      'optim': common.optim(2e-3), 'train': common.train()})
  config.optim.update(weight_decay=0.05, warmup_epochs=0.2,
                      gradient_clip_norm=1.0)
  config.train.update(batch_size=32, epochs=3.5)
  return config
