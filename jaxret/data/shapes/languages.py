"""Captions of still scenes in other languages, and how a machine gets them.

`grammar` says what a caption tells; here it is put into German, French, Czech
or Chinese as a person would, or as a rule-based translator that looks words up
one by one: it takes wrong senses, leaves words in English, drops some and
changes their places.
"""
from jaxret.data.shapes import grammar

LANGUAGES = (*grammar.LANGUAGES, 'zh')
NOISE = 0.12  # share of the words that go wrong in machine translation

_CHINESE_SHAPE = {  # noun, measure word
    'circle': ('圆形', '个'), 'square': ('正方形', '个'),
    'triangle': ('三角形', '个'), 'cross': ('十字', '个'),
    None: ('形状', '个')}
_CHINESE_WORD = {
    'red': '红色', 'blue': '蓝色', 'green': '绿色', 'yellow': '黄色',
    'white': '白色', 'orange': '橙色', 'purple': '紫色', 'cyan': '青色',
    'pink': '粉色', 'small': '小', 'big': '大'}
_CHINESE_GROUND = {
    'black': '黑色', 'grey': '灰色', 'brown': '棕色', 'navy': '深蓝色',
    'maroon': '暗红色', 'dark green': '深绿色', 'beige': '米色',
    'olive': '橄榄绿', 'teal': '蓝绿色'}

# Words that a dictionary gives for another sense of the English one.
_WRONG_SENSE = {
    'de': {'Kreis': 'Landkreis', 'Quadrat': 'Platz', 'Kreuz': 'Überquerung',
           'Hintergrund': 'Herkunft', 'Form': 'Formular', 'und': 'sowie'},
    'fr': {'cercle': 'entourage', 'carré': 'place', 'croix': 'traverser',
           'fond': 'contexte', 'forme': 'formulaire', 'et': 'puis'},
    'cs': {'kruh': 'okruh', 'čtverec': 'náměstí', 'kříž': 'přejít',
           'pozadí': 'původ', 'tvar': 'podoba', 'a': 'i'},
    'zh': {'圆形': '圈子', '正方形': '广场', '十字': '穿过', '背景': '出身',
           '形状': '体型', '和': '与'},
    'en': {'circle': 'district', 'disc': 'record', 'square': 'plaza',
           'box': 'crate', 'cross': 'crossing', 'background': 'origin',
           'shape': 'form', 'and': 'plus'}}
_ENGLISH = {
    'de': {v: k for k, v in grammar.GERMAN_COLOUR.items()},
    'fr': {form: k for k, forms in grammar.FRENCH_COLOUR.items()
           for form in forms},
    'cs': {**{v: k for k, v in grammar.CZECH_COLOUR.items()}},
    'zh': {v: k for k, v in _CHINESE_WORD.items()}}


def translate(said, rng):
  """A plan (`grammar.plan`, without motions) as a person puts it.

  Returns {language: text} for all of LANGUAGES.
  """
  return {language: _joined(words, language)
          for language, words in _words(said, rng).items()}


def machine_translate(said, rng, noise=NOISE):
  """The same as a rule-based translator puts it; `noise` is its error rate."""
  found = {}
  for language, words in _words(said, rng).items():
    found[language] = _joined(
        _with_errors(words, language, rng, noise), language)
  return found


def machine_translate_to_english(said, rng, language, noise=NOISE):
  """What a rule-based translator makes of a text in `language`, in English.

  It errs as `machine_translate` does; words that it does not know stay in the
  language.
  """
  words = grammar.english(said, rng).split(' ')
  foreign = {english: stem for stem, english in _ENGLISH[language].items()}
  return ' '.join(_with_errors(words, 'en', rng, noise, foreign))


def _words(said, rng):
  """{language: list of words} of a plan."""
  clean = {language: text.split(' ')
           for language, text in grammar.translate(said, rng).items()}
  return {**clean, 'zh': _chinese(said, rng)}


def _joined(words, language):
  return ('' if language == 'zh' else ' ').join(words)


def _chinese(said, rng):
  if said['detail'] == grammar.GENERIC:
    return ['一些', '彩色', '形状']
  words = []
  for number, mention in enumerate(said['mentions']):
    words += ['和'] * (number > 0) + _chinese_object(mention)
  if said['background']:
    ground = _CHINESE_GROUND[said['background']]
    in_front = rng.random() < 0.5
    words = (['在', ground, '背景', '上', '有', *words] if in_front
             else [*words, '，', ground, '背景'])
  return words


def _chinese_object(mention):
  noun, measure = _CHINESE_SHAPE[mention['shape']]
  words = ['一', measure]
  words += [_CHINESE_WORD[mention[name]] for name in ('size', 'colour')
            if mention[name]]
  if mention['colour']:
    words.append('的')
  return [*words, noun]


def _with_errors(words, language, rng, noise, foreign=None):
  """Each word goes wrong with probability `noise`, in one of four ways.

  foreign: {word: what is left of it untranslated}, of a text into English.
  """
  out = []
  for word in words:
    if rng.random() >= noise:
      out.append(word)
      continue
    way = rng.integers(4)
    if way == 0:
      out.append(_WRONG_SENSE[language].get(word, word))
    elif way == 1:
      out.append(foreign.get(word, word) if foreign else
                 _left_in_english(word, language))
    elif way == 2 and out:
      out.insert(len(out) - 1, word)  # before the word that it follows
    elif way == 3 and len(words) > 3:
      continue  # lost
    else:
      out.append(word)
  return out or words


def _left_in_english(word, language):
  """The English colour or size, if the word is one in any of its forms."""
  for stem, english in _ENGLISH[language].items():
    if word.startswith(stem):
      return english
  return word
