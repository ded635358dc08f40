"""The parts of a run, in the order in which the console counts them."""
from jaxret import progress
from jaxret.methods.blim import features

READING, TOWER = 'reading the media', 'training the video tower'
FEATURES, TRAINING = 'features of the videos', 'training'


def of(config):
  """The names of all parts of the run that a config describes.

  A split is scored as `scoring` names it, 'validation' before the others.
  """
  e, extracts = config.eval, config.task == 'extract'
  trains = config.task not in ('evaluate', 'extract')
  sees = not (e.zero_shot and config.model.get('backbone', 'blim') != 'blim')
  parts = [READING]
  if sees and not features.has_stored_features(config):
    if 'tower' in config.before and not config.init_from and (
        trains or extracts):
      parts.append(TOWER)
    parts.append(FEATURES)
  if trains:
    parts.append(TRAINING)
  splits = [] if extracts else sorted(
      e.splits, key=lambda name: name != 'validation')
  if splits and e.get('exact_topk', 0):  # of all others there are no numbers
    splits = [name for name in splits
              if name in ('validation', e.splits[-1])]
  return (*parts, *map(scoring, splits))


def scoring(split):
  """What the part is called in which a split is scored."""
  return f'scoring {split}'


def begin(config, part, about=''):
  """Says that a part begins; about: more of it."""
  progress.phase(of(config), part, about)
