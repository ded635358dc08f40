"""Shapes world in two languages: still images for cross-lingual retrieval.

Training captions are in English, each with what a rule-based translator makes
of it; to validate and test there is one caption per image, as a person puts
it in the language.

'de_to_en' is what is to be done without a model of German: the same translator
puts the queries into English, where a model of English searches for them. It is
trained on two English wordings of a caption.
"""
import pathlib

import numpy as np

from jaxret.data import entries, types
from jaxret.data.sets import nrccr as parallel
from jaxret.data.shapes import grammar
from jaxret.data.shapes import languages as grammar_languages

_SPLITS = ('train', 'validation', 'test')
TO_ENGLISH = '_to_en'
LANGUAGES = (*grammar_languages.LANGUAGES, *(
    f'{language}{TO_ENGLISH}' for language in grammar_languages.LANGUAGES))


def load(root, split, language, seed=0, per_image=1):
  """A ParallelSplit of the still images of a corpus that shapes.build made.

  per_image: English captions of a training image, each worded anew. Errors:
  ValueError for a language that the grammar does not have.
  """
  check_language(language)
  root = pathlib.Path(root)
  own = language.removesuffix(TO_ENGLISH)
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
        translations.append(_item(visual, f'enc2{language}', k, _training(
            said, rng, language)))
      elif own == language:
        human = grammar_languages.translate(said, rng)
        texts.append(_item(visual, own, k, human[own]))
      else:  # the same query, by its id
        texts.append(_item(visual, own, k, (
            grammar_languages.machine_translate_to_english(said, rng, own))))
  return parallel.ParallelSplit(
      'shapes', split, tuple(videos), tuple(texts), np.array(owner, np.int32),
      tuple(translations))


def _training(said, rng, language):
  if language.endswith(TO_ENGLISH):
    return grammar.english(said, rng)
  return grammar_languages.machine_translate(said, rng)[language]


def check_language(language):
  if language not in LANGUAGES:
    raise ValueError(f'shapes world has no captions in {language!r}: choose '
                     f'from {", ".join(LANGUAGES)}')


def _item(visual, tag, number, text):
  return types.Item(f'{visual}#{tag}#{number}', text=parallel.clean(text))
