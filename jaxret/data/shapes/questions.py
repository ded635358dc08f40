"""Questions about clips of shapes world, whose answers have unequal priors.

In the training split a red circle is far more frequent than a cyan one, one
shape than three, and 'yes' than 'no': a model can answer well without
looking. In validation and test every answer is as frequent as any other, so
that what it guesses from language alone is worth no more than chance: the
setting of VQA under changing priors (Agrawal et al. 2018), in small.
"""
import itertools
import pathlib

import numpy as np

from jaxret.data import questions as questions_lib
from jaxret.data import types
from jaxret.data.shapes import grammar, world

VERSION = 1
SIZES = {'train': 1000, 'validation': 150, 'test': 300}
# In the order of the report. 'caption' has nothing to choose from.
KINDS = ('colour', 'motion', 'count', 'first', 'is_there')
CAPTION = 'caption'
DESCRIBE = 'Describe the video.'
COUNTS = ('one', 'two', 'three')
MOTIONS = {'right': 'it moves right', 'left': 'it moves left',
           'up': 'it moves up', 'down': 'it moves down', 'grows': 'it grows',
           'stays': 'it stays still', 'shrinks': 'it shrinks'}
N_CHOICES = 4  # of colours and of motions
# What training shows more often; all are even elsewhere.
_COLOUR_EXPONENT, _MOTION_EXPONENT = 1.6, 1.2
_COUNT_SHARES = (0.6, 0.3, 0.1)
# Dark ones: what is asked about is told from them at once.
_BACKGROUNDS = ('black', 'navy', 'dark green', 'maroon')
_N_FRAMES = (12, 16)
_IN_ORDER = 0.85  # of two shapes, the one that stands first in world.SHAPES
_YES = 0.8
_LATE = 0.5  # share of the clips with something that comes later, and when
_STARTS = (0.35, 0.55)
_CORNERS = ((0.27, 0.27), (0.73, 0.73), (0.73, 0.27), (0.27, 0.73))


def sample_scenes(split, size, seed, n_frames=_N_FRAMES):
  """Scenes of one to three objects of different shapes -> list of dicts.

  What world.description says of a scene is in no other split; in its own it
  may be there again, elsewhere and of another size.
  """
  rng = np.random.default_rng([seed, 20, list(SIZES).index(split)])
  scenes = []
  while len(scenes) < size:
    scene = _random_scene(rng, split == 'train', n_frames)
    if world.belongs(scene, split):
      scenes.append(scene)
  return scenes


def _random_scene(rng, skewed, n_frames):
  count = 1 + rng.choice(3, p=_COUNT_SHARES if skewed else None)
  shapes = rng.permutation(len(world.SHAPES))[:count]
  things = [_random_object(rng, skewed, shape, corner) for shape, corner in zip(
      shapes, rng.permutation(_CORNERS)[:count])]
  if count > 1 and rng.random() < _LATE:
    ahead = rng.random() < (_IN_ORDER if skewed else 0.5)
    late = int((shapes[0] < shapes[1]) == ahead)
    things[late]['start'] = round(rng.uniform(*_STARTS), 3)
  return {'background': rng.choice(_BACKGROUNDS).item(),
          'n_frames': int(rng.integers(n_frames[0], n_frames[1] + 1)),
          'objects': things, 'relation': None}


def _random_object(rng, skewed, shape, corner):
  """Training has a favourite colour and motion for each shape."""
  def draw(words, exponent):
    words = words[2 * shape:] + words[:2 * shape]
    return words[rng.choice(
        len(words), p=grammar.zipf(len(words), exponent if skewed else 0.0))]
  x, y = (round(c + rng.uniform(-0.04, 0.04), 3) for c in corner)
  return {'colour': draw(world.COLOURS, _COLOUR_EXPONENT),
          'shape': world.SHAPES[shape],
          'motion': draw(tuple(MOTIONS), _MOTION_EXPONENT),
          'size': 'small' if rng.random() < 0.45 else 'big', 'x': x, 'y': y,
          'pace': round(rng.uniform(0.8, 1), 3)}


def ask(scene, rng, skewed=False):
  """What can be asked about a scene -> [{kind, question, choices, answer}].

  One of each kind as far as it fits, and its caption. skewed: yes and no as
  training has them; all else is skewed by the scenes.
  """
  things = scene['objects']
  seen = things[rng.integers(len(things))]
  moving = things[rng.integers(len(things))]
  entries = [
      _entry('colour', f'What colour is the {seen["shape"]}?',
             _choices(rng, seen['colour'], world.COLOURS), seen['colour']),
      _entry('motion', f'What does the {moving["shape"]} do?',
             _choices(rng, MOTIONS[moving['motion']], tuple(MOTIONS.values())),
             MOTIONS[moving['motion']]),
      _entry('count', 'How many shapes are there?', COUNTS,
             COUNTS[len(things) - 1])]
  late = [thing for thing in things if 'start' in thing]
  if late:
    pair = [thing['shape'] for thing in things[:2]]
    first = next(s for s in pair if s != late[0]['shape'])
    pair = [pair[i] for i in rng.permutation(2)]
    entries.append(_entry(
        'first', f'Which came first, the {pair[0]} or the {pair[1]}?',
        [f'the {shape}' for shape in pair], f'the {first}'))
  colour, shape, there = _asked_for(rng, things, _YES if skewed else 0.5)
  entries.append(_entry(
      'is_there', f'Is there a {colour} {shape}?'.replace(' a o', ' an o'),
      questions_lib.YES_NO, 'yes' if there else 'no'))
  said = [f'a {thing["colour"]} {thing["shape"]} '.replace('a o', 'an o')
          + MOTIONS[thing['motion']].removeprefix('it ') for thing in things]
  caption = ' and '.join(filter(None, [', '.join(said[:-1]), said[-1]]))
  return [*entries, _entry(CAPTION, DESCRIBE, [caption], caption)]


def _entry(kind, question, choices, answer):
  choices = list(choices)
  return {'kind': kind, 'question': question, 'choices': choices,
          'answer': choices.index(answer)}


def _choices(rng, answer, words):
  others = [word for word in words if word != answer]
  chosen = [others[i] for i in rng.permutation(len(others))[:N_CHOICES - 1]]
  chosen.insert(rng.integers(N_CHOICES), answer)
  return chosen


def _asked_for(rng, things, share):
  """(colour, shape, whether it is there); what is not is nearly there."""
  thing = things[rng.integers(len(things))]
  if rng.random() < share:
    return thing['colour'], thing['shape'], True
  there = {(o['colour'], o['shape']) for o in things}
  near = [(c, s) for c, s in itertools.product(world.COLOURS, world.SHAPES)
          if (c, s) not in there and thing['shape'] == s]
  return *near[rng.integers(len(near))], False


def build(out_dir, sizes=None, seed=0, image_px=64, progress=True,
          n_threads=None):
  """Writes clips and questions under `out_dir` unless they are there.

  sizes: clips per split, default SIZES. Files: videos/*.mp4,
  questions_{split}.json and manifest.json; see world.build for the rest.
  """
  settings = {'corpus': 'shapes questions', 'version': VERSION,
              'sizes': dict(sizes or SIZES), 'seed': seed,
              'image_px': image_px}
  wrong = [split for split, size in settings['sizes'].items()
           if split not in SIZES or size < 1]
  if wrong or not settings['sizes']:
    raise ValueError(f'shapes: sizes {settings["sizes"]}, want at least 1 for '
                     f'any of {tuple(SIZES)}')

  def write(directory):
    (directory / 'videos').mkdir(parents=True, exist_ok=True)
    jobs = []
    for split, size in settings['sizes'].items():
      scenes = sample_scenes(split, size, seed)
      names = [f'{split}{i:05d}.mp4' for i in range(size)]
      world.write_json(
          directory / f'questions_{split}.json',
          [{'video': name, **entry} for i, (name, scene) in enumerate(
              zip(names, scenes)) for entry in ask(scene, np.random.default_rng(
                  [seed, 21, list(SIZES).index(split), i]), split == 'train')])
      jobs += [(directory / 'videos' / name, scene)
               for name, scene in zip(names, scenes)]
    world.render_all(jobs, image_px, progress, n_threads)

  return world.made(pathlib.Path(out_dir), settings, write)


def load(root, split, entries):
  """The questions_lib.Questions of a split under `root`.

  entries: of its questions_{split}.json.
  """
  names = list(dict.fromkeys(entry['video'] for entry in entries))
  place = {name: i for i, name in enumerate(names)}
  items = [types.Item(name, video=str(pathlib.Path(root) / 'videos' / name))
           for name in names]
  asked = [questions_lib.Question(
      f'{entry["video"]}:{entry["kind"]}', place[entry['video']],
      entry['question'], tuple(entry['choices']), entry['answer'],
      entry['kind']) for entry in entries]
  return questions_lib.Questions('shapes', split, tuple(items), tuple(asked))
