"""Every language says the same; a machine errs as often as it is told to."""
import numpy as np

from jaxret.data.shapes import grammar
from jaxret.data.shapes import languages as grammar_languages
from jaxret.data.shapes import world as shapes

SAID = {
    'detail': grammar.FULL, 'background': 'grey', 'relation': None,
    'motions': False, 'generic': 0, 'mentions': [
        {'colour': 'red', 'shape': 'circle', 'size': 'big', 'motion': None},
        {'colour': 'blue', 'shape': 'square', 'size': None, 'motion': None}]}


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


def test_a_machine_puts_queries_into_english_with_the_same_errors():
  rng = np.random.default_rng
  said = {language: [
      grammar_languages.machine_translate_to_english(SAID, rng(seed), language)
      for seed in range(300)] for language in grammar_languages.LANGUAGES}
  clean = [grammar.english(SAID, rng(seed)) for seed in range(300)]
  assert [grammar_languages.machine_translate_to_english(
      SAID, rng(seed), 'de', 0) for seed in range(300)] == clean
  for language, stay in (('de', 'rot'), ('fr', 'rouge'), ('cs', 'červen'),
                         ('zh', '红色')):
    wrong = sum(a != b for a, b in zip(said[language], clean))
    assert 100 < wrong < 280
    words = {word for text in said[language] for word in text.split(' ')}
    assert stay in words and 'plaza' in words
