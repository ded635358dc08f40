"""What config.task=plan takes a run to be: slices, prices, amounts of data."""
from ml_collections import ConfigDict


def plan():
  """What is compiled for, whatever the data."""
  return ConfigDict({
      # Slices to compile for, commas between; 2xv5e:4x4 is two of them, between
      # which data alone is split. h100:8 is a node of GPUs, also h200 and b200.
      'topology': 'v5e:2x2',
      # Dollars for a chip for an hour, one price or one each, '' = no costs.
      'chips_per_hour_price': '',
      # Compile with less optimization than a run, several times faster; what
      # fits is found for that, the run's own programs may differ somewhat.
      'quick': True,
      # Find the largest micro-batch and tile that fit in two or three more
      # compilations each, instead of estimating them from the first.
      'largest': False,
      # Share of a chip's peak that is reached, in minimal model FLOPs.
      'utilization': 0.4,
  })


def add_scoring(config):
  """What a likelihood model is trained on and scores."""
  config.plan = plan()
  config.plan.update({
      'train_videos': 1000,  # videos to train on; of shapes, data.sizes is
      'train_texts': 1000,  # captions to train on; of shapes, data.sizes is
      'videos': 1000,  # videos to test on; of shapes, data.sizes is
      'texts': 1000,  # captions to test on; of shapes, data.sizes is
      'caption_tokens': 12,  # tokens of a caption, the mean
      'longest_caption_tokens': 64,  # of captions, that few or none exceed
      # Of another backbone than BLiM's: what it sees of a video, 1 = an image.
      'frames': 16,
      'px': (480, 640)})  # height and width of these


def add_embedding(config):
  """What an embedder is trained on and embeds."""
  config.plan = plan()
  config.plan.update({
      'train_pairs': 1_000_000,  # pairs of an epoch, where train.steps is 0
      'candidates': 1_000_000,  # to embed
      'video_hours': 0.0,  # to index, in windows that look as candidates do
      'query_words': 12,  # of the text of a pair
      'candidate_frames': 1,  # of a candidate: an image, a video; 0 = a text
      'candidate_px': (56, 56)})  # height and width of its frames


def add_mixed(config):
  """The same of one that mines and reranks, too; it sees no videos."""
  add_embedding(config)
  del config.plan.video_hours
  # Of an embedder of images: 1 = an image, 0 = a text.
  config.plan.update({
      'queries': 10_000,  # that are reranked
      'candidate_px': (336, 336)})


def add_cross_lingual(config):
  """What a cross-lingual model is trained on, and a captioner describes."""
  config.plan = plan()
  config.plan.update({
      'train_pairs': 145_000,  # captions of an epoch, where train.steps is 0
      'caption_words': 12,  # of a caption
      'description_words': 100,  # of a description, read and written
      'frames': 32,  # of a video whose features are read
      'media': 31_000,  # images to describe
      'px': (480, 640)})  # height and width of these
