"""Shapes world in two languages: still images for cross-lingual retrieval.

Training captions are in English, each with what a rule-based translator makes
of it; to validate and test there is one caption per image, as a person puts
it in the language.
"""
import pathlib

import numpy as np

from jaxret.data import entries, types
from jaxret.data.sets import nrccr as parallel
from jaxret.data.shapes import grammar
from jaxret.data.shapes import languages as grammar_languages

_SPLITS = ('train', 'validation', 'test')
LANGUAGES = grammar_languages.LANGUAGES


def load(root, split, language, seed=0, per_image=1):
  """A ParallelSplit of the still images of a corpus that shapes.build made.

  per_image: English captions of a training image, each worded anew. Errors:
  ValueError for a language that the grammar does not have.
  """
  check_language(language)
  root = pathlib.Path(root)
  images = entries.read_json(root / f'images_{split}.json')
  per_image = per_image if split == 'train' else 1
  videos, texts, translations, owner = [], [], [], []
  for i, entry in enumerate(images):
    visual = pathlib.Path(entry['image']).stem
    videos.append(types.Item(
        visual, image=str(root / 'images' / entry['image'])))
    for k in range(per_image):
      rng = np.random.default_rng([seed, 11, _SPLITS.index(split), i, k])
      said = grammar.plan(entry['scene'], rng, motions=False)
      owner.append(i)
      if split == 'train':
        texts.append(_item(visual, 'enc', k, grammar.english(said, rng)))
        machine = grammar_languages.machine_translate(said, rng)
        translations.append(
            _item(visual, f'enc2{language}', k, machine[language]))
      else:
        human = grammar_languages.translate(said, rng)
        texts.append(_item(visual, language, k, human[language]))
  return parallel.ParallelSplit(
      'shapes', split, tuple(videos), tuple(texts), np.array(owner, np.int32),
      tuple(translations))


def check_language(language):
  if language not in LANGUAGES:
    raise ValueError(f'shapes world has no captions in {language!r}: choose '
                     f'from {", ".join(LANGUAGES)}')


def _item(visual, tag, number, text):
  return types.Item(f'{visual}#{tag}#{number}', text=parallel.clean(text))
