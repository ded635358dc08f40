"""Whole runs of UNITE through the command line, small enough for a test."""
import functools

from tests import tiny_runs, tiny_unite

CONFIG = tiny_runs.ROOT / 'configs' / 'unite.py'
flags, run = tiny_runs.flags, functools.partial(tiny_runs.run, config=CONFIG)
# Of the default config: one layer everywhere, one shape for all items.
MODEL = {
    **tiny_unite.SIZES, 'model.layers': 1, 'model.vocab_size': 400,
    'train.batch_size': 8, 'train.steps': 2,
    'data.shape': (120, 1, 16), 'eval.shape': (120, 1, 16),
    'eval.gallery_queries': 2}
# The plain loss and stage 1 alike: one program less to compile.
STAGES = {'stage1.train.steps': 2, 'stage1.loss.dual': False}
SIZES = {'data.sizes.train': 40, 'data.sizes.validation': 2,
         'data.sizes.test': 40, 'data.images.train': 20,
         'data.images.validation': 2, 'data.images.test': 24,
         'data.renderings': 1, 'pairs.sources': ('text_to_video',
                                                 'image_text_to_image'),
         'pairs.weights': (1.0, 1.0)}


def shapes_flags(root, **fields):
  """Flags for the default config on a rendered corpus in `root`."""
  return flags({'data.root': root, **MODEL, **STAGES, **SIZES, **fields})


def folder_flags(root, **fields):
  """Flags for the variant `folder` on the folder `root`."""
  return flags({'data.root': root, **MODEL, **fields})
