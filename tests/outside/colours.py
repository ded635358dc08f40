"""A data set of plain pictures and the names of their colours."""
import numpy as np

from jaxret.data import types

WORDS = ('red', 'green', 'blue', 'yellow', 'cyan', 'magenta', 'white', 'black')
RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255),
       (255, 0, 255), (255, 255, 255), (0, 0, 0))


def load(section, split):
  """The types.Split of 'train' or 'test'; section: examples, of train."""
  random = np.random.default_rng({'train': 1, 'test': 2}[split])
  number = section.examples if split == 'train' else len(WORDS)
  kinds = np.arange(number) % len(WORDS)
  images = [np.clip(np.array(RGB[kind]) + random.normal(0, 20, (4, 4, 3)),
                    0, 255).astype(np.uint8) for kind in kinds]
  return types.Split(
      'colours', split,
      tuple(types.Item(f'{split}{i}', image=image)
            for i, image in enumerate(images)),
      tuple(types.Item(f'{split}{i}#0', text=f'a {WORDS[kind]} picture')
            for i, kind in enumerate(kinds)), np.arange(number, dtype=np.int32))
