"""Sections that every method's config has, with their defaults."""
from ml_collections import ConfigDict

from configs import planning


def base(method):
  return ConfigDict({
      'task': 'train_and_evaluate', 'method': method, 'seed': 0,
      # Sections that are trained first, in this order.
      'before': (),
      # The workdir of a run whose parameters, tokenizer and tower are taken.
      'init_from': '',
      'mesh': {'data': -1, 'fsdp': 1, 'tensor': 1},
      'data': data(), 'optim': optim(), 'train': train(),
      'plan': planning.plan(),
  })


def data():
  return ConfigDict({
      'name': 'shapes',
      # Directory of the data set; empty = the cache, for shapes.
      'root': '',
      'sizes': {'train': 1500, 'validation': 200, 'test': 200}, 'seed': 0,
      # Shares of the videos, for sources that name no such split.
      'validation_fraction': 0.0, 'test_fraction': 1.0,
      'max_caption_tokens': 512,
      # Seconds of a video that are sampled from; 0 = all of it.
      'limit_s': 0.0,
      # Where no train split is named, train on the clips that are evaluated.
      'train_on_all': False,
      # Read media from one array_record data set, made in the workdir.
      'store_videos': True,
      # Decoded frames kept in memory; videos per step of the vision tower.
      'cache_gb': 2.0, 'extract_batch_size': 32,
      # Where features are kept; empty = the workdir. What to do with a test
      # video that has none: 'error', or 'zeros' as the authors.
      'features': '', 'missing_features': 'error',
  })


def optim(learning_rate=1e-3):
  return ConfigDict({
      'learning_rate': learning_rate, 'betas': (0.9, 0.95), 'eps': 1e-8,
      'weight_decay': 0.0, 'warmup_epochs': 1.0, 'min_learning_rate': 0.0,
      'gradient_clip_norm': 0.0,
  })


def train():
  return ConfigDict({
      'batch_size': 32, 'epochs': 10.0, 'steps': 0, 'accumulation_steps': 1,
      'log_every_steps': 20, 'checkpoint_every_steps': 200,
      'keep_checkpoints': 2,
  })


def evaluation():
  return ConfigDict({
      # The last one is reported; weights are chosen on 'validation'.
      'splits': ('validation', 'test'),
      # Score only the best `topk` of the first stage: 'tower', the dual
      # encoder, or an .npz file; '{split}' in it is replaced. 0 = all pairs.
      'first_stage': '', 'topk': 0,
      # Text given video only, for a model whose visual head is untrained.
      'zero_shot': False,
      # The paper's fixed weights (MSR-VTT's): alpha of text to video and of
      # video to text; c0, c1 of the query, c2, c3 against the first stage.
      'alpha': (0.0, 0.9), 'c': (1.0, 0.6, 0.8, 0.4),
      # The same where zero_shot is set: no query likelihood from the video.
      'zero_shot_alpha': (0.0, 0.8), 'zero_shot_c': (1.0, 0.0, 0.8, 0.6),
      # As released: divide by the labels whose loss is not exactly zero.
      'nonzero_denominator': True,
      # See jaxret.scoring.likelihood.Options: shared, canonical or reference.
      'mode': 'shared',
      # Rows and columns of a tile, and the padding of a length bucket.
      'rows': 32, 'columns': 64, 'max_padding': 0.1, 'gallery_queries': 12,
      'trec_depth': 0,  # candidates per query in runs/*.trec; 0 = no files
  })
