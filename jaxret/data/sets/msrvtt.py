"""MSR-VTT: 10,000 videos with 20 captions each.

Its test split of 1,000 pairs as UNITE reads it is msrvtt_1ka, its captions in
Chinese are msrvttcn: other files, of which a config names one.
"""
from jaxret.data.sets import caption_files

INSTRUCTION = 'Describe this video briefly.'
SPLITS_APART = True
ANNOTATIONS = caption_files.Annotations(
    'msrvtt_ret_train.json', 'msrvtt_ret_test.json', None,
    'https://www.microsoft.com/en-us/research/publication/'
    'msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language')


def load(section, split):
  """As BLiM's authors read it."""
  return caption_files.open_split('msrvtt', ANNOTATIONS, section, split)
