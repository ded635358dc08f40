"""Whole runs of LECCR through the command line, small enough for a test."""
import functools

import numpy as np
from PIL import Image

from tests import tiny_runs, tiny_unite

CONFIG = tiny_runs.ROOT / 'configs' / 'leccr.py'
flags, run = tiny_runs.flags, functools.partial(tiny_runs.run, config=CONFIG)
# Of the default config: one layer everywhere, two languages, two steps.
MODEL = {
    'model.text.width': 8, 'model.text.mlp_width': 16, 'model.text.layers': 1,
    'model.text.heads': 2, 'model.vision.width': 8,
    'model.vision.mlp_width': 16, 'model.vision.layers': 1,
    'model.vision.heads': 2, 'model.image_px': 24, 'model.visual_width': 8,
    'model.embedding_width': 8, 'model.slots': 2, 'model.reader_layers': 1,
    'model.vocab_size': 600, 'train.batch_size': 8, 'train.steps': 2,
    'train.checkpoint_every_steps': 1, 'eval.gallery_queries': 2}
CAPTIONER = {
    **tiny_unite.SIZES, 'model.layers': 1, 'model.vocab_size': 400,
    'train.batch_size': 8, 'train.steps': 2,
    'max_new_tokens': 5, 'batch_size': 8, 'shape': (120, 1, 16)}
SIZES = {'data.images.train': 12, 'data.images.validation': 8,
         'data.images.test': 10, 'data.renderings': 1}


def shapes_flags(root, **fields):
  """Flags for the default config on a rendered corpus in `root`."""
  captioner = {f'captioner.{name}': value for name, value in CAPTIONER.items()}
  return flags({'data.root': root, 'data.languages': ('de', 'zh'), **SIZES,
                'compare': ('without_softened_matching',), **MODEL, **captioner,
                **fields})


def write_multi30k(root, languages=('fr',), n_images=3):
  """A data set in LECCR's layout: images that differ, the same in each split.

  One caption of each, 'text 0' and so on.
  """
  (root / 'TextData').mkdir(parents=True)
  (root / 'img_id').mkdir()
  ids = [str(i) for i in range(n_images)]
  for i in ids:
    Image.fromarray(np.full((8, 8, 3), 20 * int(i), np.uint8)).save(
        root / f'{i}.jpg')
  for name in ('train_id', 'val_id', 'test_id_2016'):
    (root / 'img_id' / f'{name}.txt').write_text(
        ''.join(f'{i}\n' for i in ids))
  captions = {'Flickr30ktrain_enc': 'enc'}
  for language in languages:
    captions.update({f'multi30kval_{language}': language,
                     f'Flickr30ktrain_google_enc2{language}': f'enc2{language}',
                     f'multi30ktest_{language}_2016': language})
  for name, tag in captions.items():
    (root / 'TextData' / f'{name}.caption.txt').write_text(
        ''.join(f'{i}.jpg#{tag}#0 text {i}\n' for i in ids))
  return root
