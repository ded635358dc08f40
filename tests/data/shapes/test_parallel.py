"""Shapes world in other languages: what people say and what machines make."""
import numpy as np
import pytest

from jaxret.data.shapes import grammar
from jaxret.data.shapes import languages as grammar_languages
from jaxret.data.shapes import parallel as shapes_parallel
from jaxret.data.shapes import world as shapes

SIZES = {'train': 6, 'validation': 4, 'test': 4}
SAID = {
    'detail': grammar.FULL, 'background': 'grey', 'relation': None,
    'motions': False, 'generic': 0, 'mentions': [
        {'colour': 'red', 'shape': 'circle', 'size': 'big', 'motion': None},
        {'colour': 'blue', 'shape': 'square', 'size': None, 'motion': None}]}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return shapes.build(
      tmp_path_factory.mktemp('shapes') / 'corpus',
      dict.fromkeys(SIZES, 1), images=SIZES, renderings=2, progress=False)


def test_every_language_says_the_same():
  texts = grammar_languages.translate(SAID, np.random.default_rng(0))
  assert texts['de'] == (
      'ein großer roter Kreis und ein blaues Quadrat vor grauem Hintergrund')
  assert texts['fr'] == 'un grand cercle rouge et un carré bleu sur fond gris'
  assert texts['cs'] == 'velký červený kruh a modrý čtverec na šedém pozadí'
  assert texts['zh'] in ('在灰色背景上有一个大红色的圆形和一个蓝色的正方形',
                         '一个大红色的圆形和一个蓝色的正方形，灰色背景')
  assert tuple(texts) == grammar_languages.LANGUAGES


def test_every_word_of_the_scenes_has_a_translation():
  for colour in shapes.COLOURS:
    for shape in shapes.SHAPES:
      mention = {'colour': colour, 'shape': shape, 'size': 'small',
                 'motion': None}
      said = {**SAID, 'mentions': [mention]}
      assert all(grammar_languages.translate(
          said, np.random.default_rng(0)).values())


def test_a_machine_errs_as_often_as_told():
  """Without noise it is right; with some, some words are others."""
  rng = np.random.default_rng
  for seed in range(5):
    assert grammar_languages.machine_translate(SAID, rng(seed), 0) == (
        grammar_languages.translate(SAID, rng(seed)))
  wrong = {language: 0 for language in grammar_languages.LANGUAGES}
  for seed in range(300):
    clean = grammar_languages.translate(SAID, rng(seed))
    noisy = grammar_languages.machine_translate(SAID, rng(seed))
    for language in wrong:
      wrong[language] += clean[language] != noisy[language]
  assert all(60 < count < 280 for count in wrong.values()), wrong


def test_splits_pair_languages(root):
  split = shapes_parallel.load(root, 'train', 'fr', per_image=3)
  assert len(split.videos) == 12 and len(split.texts) == 36
  assert len(split.translations) == 36
  assert split.text_video.tolist() == [i // 3 for i in range(36)]
  assert split.texts[0].id == 'train00000#enc#0'
  assert split.translations[0].id == 'train00000#enc2fr#0'
  test = shapes_parallel.load(root, 'test', 'zh')
  assert not test.translations and len({t.text for t in test.texts}) == 4
  same = shapes_parallel.load(root, 'test', 'zh')
  assert [t.text for t in same.texts] == [t.text for t in test.texts]
  kept = test.without([test.videos[0].id])
  assert len(kept.texts) == 3
  with pytest.raises(ValueError, match="no captions in 'ja': choose from de"):
    shapes_parallel.load(root, 'test', 'ja')


def test_english_is_the_same_whatever_the_other_language(root):
  splits = [shapes_parallel.load(root, 'train', language, per_image=2)
            for language in grammar_languages.LANGUAGES]
  for split in splits[1:]:
    assert split.texts == splits[0].texts
    assert split.translations != splits[0].translations
