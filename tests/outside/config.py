"""The config of a method and a data set that live outside of jaxret."""
from ml_collections import ConfigDict


def get_config():
  return ConfigDict({
      'task': 'train_and_evaluate', 'method': 'outside.matcher', 'seed': 0,
      'init_from': '', 'mesh': {'data': -1, 'fsdp': 1, 'tensor': 1},
      'data': {'name': 'outside.colours', 'examples': 64},
      'model': {'width': 16}, 'loss': {'margin': 0.5},
      'optim': {'learning_rate': 0.05, 'betas': (0.9, 0.95), 'eps': 1e-8,
                'weight_decay': 0.0, 'warmup_epochs': 1.0,
                'min_learning_rate': 0.0, 'gradient_clip_norm': 0.0},
      'train': {'batch_size': 16, 'epochs': 40.0, 'steps': 0,
                'accumulation_steps': 1, 'log_every_steps': 20,
                'checkpoint_every_steps': 100, 'keep_checkpoints': 1},
  }).lock()
