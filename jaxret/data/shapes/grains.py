"""Captions of clips of shapes world that tell less, or all there is to see.

A corpus has them by its scenes, without being rendered again: `coarse` ones
name colours and shapes, as alt texts do; `fine` ones tell size, colour, shape,
place and motion of everything, and the background, as captions of Tarsier do,
which UNITE calls fine-grained (arXiv 2505.19650).
"""
import pathlib

import numpy as np

from jaxret.data import entries
from jaxret.data.shapes import grammar

GRAINS = ('coarse', 'fine')
_SIDES = (('left', 'right'), ('upper', 'lower'))
_CENTRE = 0.1  # nobody would call a smaller distance from it a side


def captions(root, split, grain, seed):
  """[{'video', 'caption'}] of a split, one for each clip, in their order.

  Raises ValueError for a grain that there is not.
  """
  if grain not in GRAINS:
    raise ValueError(f'data.grains names {grain!r}: use some of '
                     f'{", ".join(GRAINS)}')
  path = pathlib.Path(root) / f'captions_{split}.json'
  scenes = {entry['video']: entry['scene'] for entry in entries.read_json(path)}
  write = coarse if grain == 'coarse' else fine
  place = sorted(('train', 'validation', 'test')).index(split)
  return [{'video': name, 'caption': write(scene, np.random.default_rng(
      [seed, 13, place, i]))} for i, (name, scene) in enumerate(scenes.items())]


def coarse(scene, rng):
  """What is there: 'a red circle and a blue square'."""
  said = grammar.plan(scene, rng, grammar.FULL, motions=False)
  for mention in said['mentions']:
    mention['size'] = None
  return grammar.english(said | {'background': None, 'relation': None}, rng)


def fine(scene, rng):
  """All of it: 'a big red circle in the upper left moves right and ...'."""
  things = [f'{grammar.english_object(thing, rng)} {_place(thing)} '
            f'{grammar.english_motion(thing["motion"], rng)}'
            for thing in scene['objects']]
  if scene['relation']:
    body = f'{things[0]} {scene["relation"]} {things[1]}'
  else:
    body = ' and '.join(things[i] for i in rng.permutation(len(things)))
  ground = scene['background']
  article = 'an' if ground[0] in 'aeiou' else 'a'
  return f'{body} on {article} {ground} background'


def _place(thing):
  offsets = [(thing['y'] - 0.5, _SIDES[1]), (thing['x'] - 0.5, _SIDES[0])]
  words = [sides[int(offset > 0)] for offset, sides in offsets
           if abs(offset) > _CENTRE]
  return f'in the {" ".join(words) or "centre"}'
