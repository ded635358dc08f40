"""Captions of shapes-world scenes, in English, German, French and Czech.

What is said and how it is said have skewed frequencies, and some captions
say less than others: as in real captions, a text can be likely a priori
without fitting the video, which is what candidate priors are about.
"""
GENERIC = 'generic'  # says nothing that tells one scene from another
BRIEF = 'brief'      # leaves out all motions, or all shapes
PARTIAL = 'partial'  # leaves out one word about one object
FULL = 'full'
DETAIL = {FULL: 0.82, PARTIAL: 0.11, BRIEF: 0.05, GENERIC: 0.02}
LANGUAGES = ('de', 'fr', 'cs')

# Words in falling frequency; a motion as (finite verb, participle).
_ENGLISH_SHAPE = {
    'circle': ('circle', 'disc'), 'square': ('square', 'box'),
    'triangle': ('triangle',), 'cross': ('cross', 'plus sign'),
    None: ('shape', 'object')}
_ENGLISH_COLOUR = {'purple': ('purple', 'violet'),
                   'cyan': ('cyan', 'turquoise')}
_ENGLISH_SIZE = {'small': ('small', 'little', 'tiny'), 'big': ('big', 'large')}
_ENGLISH_MOTION = {
    'right': (('moves right', 'moving right'),
              ('goes to the right', 'going to the right'),
              ('slides right', 'sliding right')),
    'left': (('moves left', 'moving left'),
             ('goes to the left', 'going to the left'),
             ('slides left', 'sliding left')),
    'up': (('moves up', 'moving up'), ('rises', 'rising')),
    'down': (('moves down', 'moving down'), ('falls', 'falling')),
    'grows': (('grows', 'growing'), ('gets bigger', 'getting bigger')),
    'stays': (('stays still', 'staying still'),
              ('does not move', 'standing still')),
    'shrinks': (('shrinks', 'shrinking'),
                ('gets smaller', 'getting smaller'))}
# (text, whether the participle follows); in falling frequency.
_ENGLISH_TEMPLATES = (
    ('{}', False), ('a video of {}', True), ('in this clip {}', False),
    ('there is {}', True), ('the animation shows {}', True),
    ('this is a short video in which {}', False))

_TEMPLATES = {
    'de': ('{}', 'im Video: {}', 'zu sehen ist Folgendes: {}'),
    'fr': ('{}', 'dans cette vidéo, {}', 'on voit ceci : {}'),
    'cs': ('{}', 'na videu: {}', 've videu vidíme toto: {}')}
_AND = {'en': ' and ', 'de': ' und ', 'fr': ' et ', 'cs': ' a '}

_GERMAN_SHAPE = {  # noun, gender
    'circle': ('Kreis', 'm'), 'square': ('Quadrat', 'n'),
    'triangle': ('Dreieck', 'n'), 'cross': ('Kreuz', 'n'),
    None: ('Form', 'f')}
GERMAN_COLOUR = {
    'red': 'rot', 'blue': 'blau', 'green': 'grün', 'yellow': 'gelb',
    'white': 'weiß', 'orange': 'orangefarben', 'purple': 'violett',
    'cyan': 'türkis', 'pink': 'rosafarben', 'small': 'klein', 'big': 'groß'}
_GERMAN_MOTION = {
    'right': 'bewegt sich nach rechts', 'left': 'bewegt sich nach links',
    'up': 'bewegt sich nach oben', 'down': 'bewegt sich nach unten',
    'grows': 'wird größer', 'stays': 'steht still',
    'shrinks': 'wird kleiner'}
_GERMAN_GROUND = {'black': 'schwarzem', 'grey': 'grauem', 'brown': 'braunem',
                  'navy': 'dunkelblauem', 'maroon': 'weinrotem',
                  'dark green': 'dunkelgrünem', 'beige': 'beigem',
                  'olive': 'olivgrünem', 'teal': 'petrolfarbenem'}

_FRENCH_SHAPE = {
    'circle': ('cercle', 'm'), 'square': ('carré', 'm'),
    'triangle': ('triangle', 'm'), 'cross': ('croix', 'f'),
    None: ('forme', 'f')}
FRENCH_COLOUR = {  # masculine, feminine
    'red': ('rouge', 'rouge'), 'blue': ('bleu', 'bleue'),
    'green': ('vert', 'verte'), 'yellow': ('jaune', 'jaune'),
    'white': ('blanc', 'blanche'), 'orange': ('orange', 'orange'),
    'purple': ('violet', 'violette'), 'cyan': ('turquoise', 'turquoise'),
    'pink': ('rose', 'rose'),
    'small': ('petit', 'petite'), 'big': ('grand', 'grande')}
_FRENCH_MOTION = {
    'right': 'se déplace vers la droite', 'left': 'se déplace vers la gauche',
    'up': 'se déplace vers le haut', 'down': 'se déplace vers le bas',
    'grows': 'grandit', 'stays': 'reste immobile', 'shrinks': 'rapetisse'}
_FRENCH_GROUND = {'black': 'noir', 'grey': 'gris', 'brown': 'marron',
                  'navy': 'bleu marine', 'maroon': 'bordeaux',
                  'dark green': 'vert foncé', 'beige': 'beige',
                  'olive': 'vert olive', 'teal': 'bleu pétrole'}

_CZECH_SHAPE = {  # nominative, instrumental, gender
    'circle': ('kruh', 'kruhem', 'm'), 'square': ('čtverec', 'čtvercem', 'm'),
    'triangle': ('trojúhelník', 'trojúhelníkem', 'm'),
    'cross': ('kříž', 'křížem', 'm'), None: ('tvar', 'tvarem', 'm')}
CZECH_COLOUR = {  # without its ending
    'red': 'červen', 'blue': 'modr', 'green': 'zelen', 'yellow': 'žlut',
    'white': 'bíl', 'orange': 'oranžov', 'purple': 'fialov',
    'cyan': 'tyrkysov', 'pink': 'růžov', 'small': 'mal', 'big': 'velk'}
_CZECH_ENDING = {('m', 0): 'ý', ('f', 0): 'á', ('m', 1): 'ým', ('f', 1): 'ou'}
_CZECH_MOTION = {
    'right': 'se pohybuje doprava', 'left': 'se pohybuje doleva',
    'up': 'se pohybuje nahoru', 'down': 'se pohybuje dolů',
    'grows': 'se zvětšuje', 'stays': 'se nehýbe',
    'shrinks': 'se zmenšuje'}
_CZECH_GROUND = {'black': 'černém', 'grey': 'šedém', 'brown': 'hnědém',
                 'navy': 'tmavě modrém', 'maroon': 'vínovém',
                 'dark green': 'tmavě zeleném', 'beige': 'béžovém',
                 'olive': 'olivovém', 'teal': 'petrolejovém'}

_GENERIC = (
    ('some shapes are moving around', 'einige Formen bewegen sich',
     'des formes se déplacent', 'nějaké tvary se pohybují'),
    ('a short animation with coloured shapes',
     'eine kurze Animation mit bunten Formen',
     'une courte animation avec des formes colorées',
     'krátká animace s barevnými tvary'),
    ('coloured shapes on a plain background',
     'bunte Formen vor einfarbigem Hintergrund',
     'des formes colorées sur un fond uni', 'barevné tvary na prostém pozadí'),
    ('this is a video of shapes', 'das ist ein Video von Formen',
     'ceci est une vidéo de formes', 'toto je video s tvary'),
    ('geometric shapes are shown', 'geometrische Formen sind zu sehen',
     'on voit des formes géométriques', 'jsou vidět geometrické tvary'),
    ('a simple cartoon with a few objects',
     'ein einfacher Trickfilm mit wenigen Objekten',
     'un dessin animé simple avec quelques objets',
     'jednoduchý kreslený film s několika objekty'))


def zipf(n, exponent=1.0):
  """Probabilities of n things in falling frequency: rank ** -exponent."""
  weights = [rank ** -exponent for rank in range(1, n + 1)]
  return [weight / sum(weights) for weight in weights]


def _pick(rng, words):
  return words[rng.choice(len(words), p=zipf(len(words), 1.5))]


def _join(parts, language):
  return _AND[language].join(filter(None, [', '.join(parts[:-1]), parts[-1]]))


def plan(scene, rng, detail=None, motions=True):
  """Decides what a caption of `scene` says -> dict (see the keys below).

  detail: one of DETAIL, drawn by its frequency if None. motions: whether
  there is motion to tell of (a still image has none).
  """
  mentions = [{k: o[k] for k in ('colour', 'shape', 'motion', 'size')}
              for o in scene['objects']]
  if len(mentions) == 1 or not motions:
    detail = FULL  # less would fit a great many scenes
  if detail is None:
    detail = rng.choice(list(DETAIL), p=list(DETAIL.values())).item()
  sized = rng.random() < 0.3 and detail == FULL
  for mention in mentions:
    if not sized or mention['motion'] in ('grows', 'shrinks'):
      mention['size'] = None
    if not motions or (detail == BRIEF and not scene['relation']):
      mention['motion'] = None
  if detail == PARTIAL:
    words = ('colour', 'shape') if scene['relation'] else (
        'colour', 'shape', 'motion')
    mentions[rng.integers(len(mentions))][rng.choice(words).item()] = None
  if not scene['relation']:
    mentions = [mentions[i] for i in rng.permutation(len(mentions))]
  tells_ground = rng.random() < (0.3 if detail == BRIEF else 0.9)
  ground = scene['background'] if tells_ground else None
  return {'detail': detail, 'mentions': mentions, 'background': ground,
          'relation': scene['relation'], 'motions': motions,
          'generic': int(rng.integers(len(_GENERIC)))}


def english(said, rng):
  """One English wording of a plan; `rng` chooses among synonyms."""
  if said['detail'] == GENERIC:
    return _GENERIC[said['generic']][0]
  template, participle = _pick(rng, _ENGLISH_TEMPLATES)
  if not all(mention['motion'] for mention in said['mentions']):
    participle = True
    template = _pick(rng, [t for t, with_ing in _ENGLISH_TEMPLATES
                           if with_ing or t == '{}'])
  if not said['motions']:
    template = '{}'  # a still image is not a video
  parts = []
  for mention in said['mentions']:
    phrase = english_object(mention, rng)
    if mention['motion']:
      verb = _pick(rng, _ENGLISH_MOTION[mention['motion']])[int(participle)]
      phrase = f'{phrase} {verb}'
    parts.append(phrase)
  if said['relation']:
    body = f'{parts[0]} {said["relation"]} ' + english_object(
        said['mentions'][1], rng)
  else:
    body = _join(parts, 'en')
  if said['background']:
    article = 'an' if said['background'][0] in 'aeiou' else 'a'
    body += f' on {article} {said["background"]} background'
  return template.format(body)


def english_object(mention, rng, article='a'):
  """'a big red circle' of a mention; with article 'the', 'the ...'."""
  colour = mention['colour']
  words = [
      mention['size'] and _pick(rng, _ENGLISH_SIZE[mention['size']]),
      colour and _pick(rng, _ENGLISH_COLOUR.get(colour, (colour,))),
      _pick(rng, _ENGLISH_SHAPE[mention['shape']])]
  phrase = ' '.join(filter(None, words))
  if article == 'a' and phrase[0] in 'aeiou':
    article = 'an'
  return f'{article} {phrase}'


def english_motion(motion, rng):
  """'moves right', 'rises', ..."""
  return _pick(rng, _ENGLISH_MOTION[motion])[0]


def english_change(old, new, rng):
  """The change that turns object `old` into `new`, which differ in one word.

  'the same, but the red circle is blue', '... grows', '... is a cross'.
  """
  subject = english_object(dict(old, size=None), rng, 'the')
  if old['motion'] != new['motion']:
    return f'the same, but {subject} {english_motion(new["motion"], rng)}'
  if old['colour'] != new['colour']:
    return f'the same, but {subject} is {new["colour"]}'
  target = english_object(dict(new, size=None, colour=None), rng)
  return f'the same, but {subject} is {target}'


def translate(said, rng):
  """A plan in the other languages -> {'de': ..., 'fr': ..., 'cs': ...}."""
  if said['detail'] == GENERIC:
    return dict(zip(LANGUAGES, _GENERIC[said['generic']][1:]))
  writers = {'de': (_german_object, _GERMAN_MOTION, _german_relation),
             'fr': (_french_object, _FRENCH_MOTION, _french_relation),
             'cs': (_czech_object, _CZECH_MOTION, _czech_relation)}
  grounds = {'de': ('vor {} Hintergrund', _GERMAN_GROUND),
             'fr': ('sur fond {}', _FRENCH_GROUND),
             'cs': ('na {} pozadí', _CZECH_GROUND)}
  texts = {}
  for language, (noun_phrase, verbs, relate) in writers.items():
    mentions = said['mentions']
    if said['relation']:
      body = relate(*mentions, said['relation'])
    else:
      body = _join([' '.join(filter(None, (noun_phrase(m),
                                           verbs.get(m['motion']))))
                    for m in mentions], language)
    if said['background']:
      phrase, words = grounds[language]
      body += ' ' + phrase.format(words[said['background']])
    templates = _TEMPLATES[language] if said['motions'] else ('{}',)
    texts[language] = _pick(rng, templates).format(body)
  return texts


def _german_object(mention, dative=False):
  noun, gender = _GERMAN_SHAPE[mention['shape']]
  if dative:
    article, ending = ('einer' if gender == 'f' else 'einem'), 'en'
  else:
    article = 'eine' if gender == 'f' else 'ein'
    ending = {'m': 'er', 'n': 'es', 'f': 'e'}[gender]
  adjectives = [GERMAN_COLOUR[mention[k]] + ending
                for k in ('size', 'colour') if mention[k]]
  return ' '.join([article, *adjectives, noun])


def _german_relation(front, other, relation):
  place = {'in front of': 'vor', 'behind': 'hinter'}[relation]
  way = _GERMAN_MOTION[front['motion']].removeprefix('bewegt sich ')
  return (f'{_german_object(front)} zieht {place} '
          f'{_german_object(other, dative=True)} {way} vorbei')


def _french_object(mention):
  noun, gender = _FRENCH_SHAPE[mention['shape']]
  feminine = int(gender == 'f')
  size, colour = (mention[k] and FRENCH_COLOUR[mention[k]][feminine]
                  for k in ('size', 'colour'))
  return ' '.join(filter(None, [('un', 'une')[feminine], size, noun, colour]))


def _french_relation(front, other, relation):
  place = {'in front of': 'devant', 'behind': 'derrière'}[relation]
  way = _FRENCH_MOTION[front['motion']].removeprefix('se déplace ')
  return (f'{_french_object(front)} passe {place} {_french_object(other)} '
          f'{way}')


def _czech_object(mention, instrumental=False):
  *nouns, gender = _CZECH_SHAPE[mention['shape']]
  case = int(instrumental)
  adjectives = [CZECH_COLOUR[mention[k]] + _CZECH_ENDING[gender, case]
                for k in ('size', 'colour') if mention[k]]
  return ' '.join([*adjectives, nouns[case]])


def _czech_relation(front, other, relation):
  place = {'in front of': 'před', 'behind': 'za'}[relation]
  return (f'{_czech_object(front)} {_CZECH_MOTION[front["motion"]]} {place} '
          f'{_czech_object(other, instrumental=True)}')
