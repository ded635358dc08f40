"""MM-Embed's whole pipeline in small, on shapes world."""
from ml_collections import ConfigDict

from configs import mm_embed_fields

# The five tasks, with their shares in training.
TASKS = {'text_to_image': 3.0, 'image_to_text': 2.0, 'image_text_to_image': 3.0,
         'text_to_text': 0.5, 'image_to_image': 1.5}
# What the model knows before: pictures and texts, as LLaVA-NeXT with
# NV-Embed-v1 does; neither changes of pictures nor other drawings.
KNOWN = {'text_to_image': 3.0, 'image_to_text': 3.0, 'text_to_text': 1.0}


def shapes_world(config):
  """A start; random and hard negatives from there; then text besides."""
  sizes = mm_embed_fields.splits
  config.data.update(renderings=4, sizes=sizes(1, 1, 1),  # no clips
                     images=sizes(400, 80, 80), texts=sizes(1350, 100, 100))
  # Few shapes: the model compiles longer than padding costs.
  config.data.shape = config.eval.shape = 48, 56
  config.data.candidate_shape = 28, 56
  config.before, config.starts_from = ('start', 'random', 'hard'), 'hard'
  config.start = stage(KNOWN, 150, negatives='')
  config.random = stage(TASKS, 120, negatives='', starts_from='start')
  config.hard = stage(TASKS, 150, starts_from='start')
  # A batch of one task contrasts no modalities; mined negatives do.
  config.pairs.update(per_source=True, sources=(*TASKS, 'texts'),
                      weights=(*TASKS.values(), 6.0))
  config.negatives, config.optim.learning_rate = 'random', 1.5e-3
  config.train.update(batch_size=64, steps=60)
  # What the query says comes before the candidate, which then is compared
  # with all of it, and little is said for each of the candidates.
  config.rerank.questions.image_text_to_image = (
      '<image>\n{query}\n<image>\nTrue or False')
  config.rerank.update(tasks=('image_text_to_image',), shape=(40, 1, 10, 32, 1),
                       train={'batch_size': 32, 'steps': 150})


def stage(tasks, steps, **fields):
  """A section of the config: what one training changes."""
  return ConfigDict({
      'pairs': {'sources': tuple(tasks), 'weights': tuple(tasks.values())},
      'train': {'steps': steps}, **fields})
