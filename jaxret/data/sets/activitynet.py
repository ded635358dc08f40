"""ActivityNet Captions: long videos, each with a paragraph."""
from jaxret.data.sets import caption_files

INSTRUCTION = 'Describe this video in detail.'
SPLITS_APART = True
ANNOTATIONS = caption_files.Annotations(
    'anet_ret_train.json', 'anet_ret_val_1.json', '',
    'http://activity-net.org')


def load(section, split):
  """As BLiM's authors read it; the first validation split is the test."""
  return caption_files.open_split('activitynet', ANNOTATIONS, section, split)
