"""LSMDC: clips of movies, each with a sentence."""
from jaxret.data import entries
from jaxret.data.sets import caption_files

INSTRUCTION = 'Describe this video in one sentence.'
SPLITS_APART = True


def _video_id(path, i, video):
  parts = video[:-4].split('/')  # clip names hold dots: movie/clip.avi
  if len(parts) < 2:
    raise entries.wrong(path, i, f"field 'video' {video!r}", 'movie/clip.ext')
  return parts[1]


ANNOTATIONS = caption_files.Annotations(
    'lsmdc_ret_train.json', 'lsmdc_ret_test_1000.json', None,
    'https://sites.google.com/site/describingmovies', _video_id)


def load(section, split):
  """As BLiM's authors read it."""
  return caption_files.open_split('lsmdc', ANNOTATIONS, section, split)
