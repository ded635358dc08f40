"""What captions say: every object, in every language, in other words."""
import numpy as np

from jaxret.data.shapes import grammar
from jaxret.data.shapes import world as shapes


def _thing(**changes):
  thing = {'colour': 'red', 'shape': 'circle', 'motion': 'stays',
           'size': 'big', 'x': 0.5, 'y': 0.5, 'pace': 1.0}
  return dict(thing, **changes)


def _words(colour, shape, motion):
  """Every English phrase for an object, written out by a double loop."""
  nouns = grammar._ENGLISH_SHAPE[shape]
  colours = grammar._ENGLISH_COLOUR.get(colour, (colour,))
  verbs = [v for pair in grammar._ENGLISH_MOTION[motion] for v in pair]
  return [f'{c} {n} {v}' for c in colours for n in nouns for v in verbs]


def test_full_captions_name_every_object():
  scenes = shapes.sample_scenes('validation', 100, 3)
  for entry in shapes.captions('validation', scenes, 3):
    assert set(entry['captions']) == {'de', 'fr', 'cs'}
    assert all(entry['captions'].values())
    if entry['detail'] != 'full' or entry['scene']['relation']:
      continue
    for o in entry['scene']['objects']:
      phrases = _words(o['colour'], o['shape'], o['motion'])
      assert any(p in entry['caption'] for p in phrases), entry


def test_grammar_of_the_other_languages():
  said = {'detail': 'full', 'background': 'navy', 'generic': 0,
          'motions': False, 'relation': None, 'mentions': [
              dict(_thing(colour='white', shape='cross', motion='grows'),
                   size='small'),
              dict(_thing(colour='blue', shape='square', motion='left'),
                   size=None)]}
  rng = np.random.default_rng(0)
  assert grammar.translate(said, rng) == {
      'de': 'ein kleines weißes Kreuz wird größer und ein blaues Quadrat '
            'bewegt sich nach links vor dunkelblauem Hintergrund',
      'fr': 'une petite croix blanche grandit et un carré bleu se déplace '
            'vers la gauche sur fond bleu marine',
      'cs': 'malý bílý kříž se zvětšuje a modrý čtverec se pohybuje doleva '
            'na tmavě modrém pozadí'}
  said.update(relation='behind', background=None)
  said['mentions'] = said['mentions'][::-1]
  assert grammar.translate(said, rng) == {
      'de': 'ein blaues Quadrat zieht hinter einem kleinen weißen Kreuz nach '
            'links vorbei',
      'fr': 'un carré bleu passe derrière une petite croix blanche vers la '
            'gauche',
      'cs': 'modrý čtverec se pohybuje doleva za malým bílým křížem'}


def test_paraphrases_differ_in_words():
  scenes = shapes.sample_scenes('test', 50, 0)
  pairs = shapes.paraphrases('test', scenes, 0)
  assert len(pairs) == 50
  assert all(p['caption'] != p['paraphrase'] for p in pairs)
