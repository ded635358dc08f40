"""What task='plan' takes a run to be: TPU slices, prices, amounts of data."""
from ml_collections import ConfigDict

# Videos and captions to train on, videos to test on (one caption each), tokens
# of a caption, about: the mean, and one that few or none exceed.
BENCHMARKS = {
    'didemo': (8395, 8395, 1003, 35, 256),
    'activitynet': (10009, 10009, 4917, 60, 512),
    'lsmdc': (101079, 101079, 1000, 11, 128),
    'msrvtt': (9000, 180000, 1000, 11, 80),
}


def plan():
  return ConfigDict({
      # Slices to compile for, comma-separated; dollars for one chip for an
      # hour, one price for all or one each, empty = no costs.
      'topology': 'v5e:2x2', 'chips_per_hour_price': '',
      # Compile with less optimization than a run, several times faster; what
      # fits is found for that, the run's own programs may differ somewhat.
      'quick': True,
      # Find the largest micro-batch and tile that fit in two or three more
      # compilations each, instead of estimating them from the first.
      'largest': False,
      # The share of a chip's peak that is reached, in minimal model FLOPs.
      'utilization': 0.4,
      # Ignored for shapes, which says its sizes in `data`.
      'train_videos': 1000, 'train_texts': 1000, 'videos': 1000,
      'texts': 1000, 'caption_tokens': 12, 'longest_caption_tokens': 64,
  })


def benchmark(config, name):
  train_videos, train_texts, test, mean, longest = BENCHMARKS[name]
  config.plan.update(
      train_videos=train_videos, train_texts=train_texts, videos=test,
      texts=test, caption_tokens=mean, longest_caption_tokens=longest)
