"""Shapes world as M-BEIR in small: five tasks over one pool of stills and text.

  text_to_image, image_to_text, text_to_text (another wording), image_to_image
  (the same shapes, drawn again) and image_text_to_image (the same with one
  change)
"""
import pathlib

import numpy as np

from jaxret import files
from jaxret.data import entries, types
from jaxret.data.sets import mixed
from jaxret.data.shapes import render
from jaxret.data.shapes import world as shapes

POOLS = ('images', 'captions', 'wordings', 'again')
# What queries are told; the first is what evaluation says.
INSTRUCTIONS = {
    'text_to_image': ('Find the picture that shows this.',
                      'Which picture does the text describe?'),
    'image_to_text': ('Find the caption of this picture.',
                      'Which text tells what is shown?'),
    'image_text_to_image': ('Find the picture with this change.',
                            'Which picture is like it but for the change?'),
    'text_to_text': ('Find another wording of this text.',
                     'Which text says the same in other words?'),
    'image_to_image': ('Find a picture with the same shapes.',
                       'Which picture shows these shapes again?')}
FEW_TEXTS = 150  # pairs of text_to_text; the others are those of `texts`
CHANGES = 2  # composed queries to train on, for each picture


def benchmark(root, split, seed, n_texts):
  """The mixed.Benchmark of a split of a corpus that was built with `images`.

  n_texts: scenes of clips of which two wordings are compared.
  """
  world = _World(root, split, seed, n_texts)
  pools = {name: tuple(world.pools[name].values()) for name in POOLS}
  return mixed.Benchmark('shapes', pools, tuple(
      _task(name, world) for name in INSTRUCTIONS))


def training_sets(root, seed, n_texts):
  """{source: mixed.TrainingSet} of the train split.

  One for each task, over the pool of them all, and `texts`, what continual
  training adds: text_to_text again, with other scenes and its own pool.
  """
  world = _World(root, 'train', seed, n_texts + FEW_TEXTS)
  few = dict(list(world.pools['wordings'].items())[:FEW_TEXTS])
  rest = tuple(list(world.pools['wordings'].values())[FEW_TEXTS:])
  parts = {**world.pools, 'wordings': few}
  pool = tuple(item for part in parts.values() for item in part.values())
  labels = tuple(name for name, part in parts.items() for _ in part)
  found = {}
  for name, said in INSTRUCTIONS.items():
    queries = world.queries(name)
    if name == 'text_to_text':
      queries, others = queries[:FEW_TEXTS], queries[FEW_TEXTS:]
    found[name] = _set(queries, said, name, pool, labels)
  found['texts'] = _set(others, INSTRUCTIONS['text_to_text'], 'text_to_text',
                        rest, ('texts',) * len(rest))
  return found


def _set(queries, said, name, pool, labels):
  kind = name.rpartition('_to_')[2]
  return mixed.TrainingSet(tuple(
      mixed.Query(item, {kind: said}, tuple(relevant), out)
      for item, relevant, out in queries), pool, labels)


def _task(name, world):
  found = world.queries(name)
  if not found:
    raise ValueError(f'shapes world has no query of {name} in its '
                     f'{world.split} split: ask for more images there '
                     f'(data.images.{world.split})')
  queries, relevant, excluded = zip(*found)
  pool = {'text_to_image': 'images', 'image_to_text': 'captions',
          'image_text_to_image': 'images', 'text_to_text': 'wordings',
          'image_to_image': 'again'}[name]
  return mixed.Task(
      name, queries, (INSTRUCTIONS[name][0],) * len(queries),
      tuple(dict.fromkeys(own, 1) for own in relevant), pool,
      name.rpartition('_to_')[2], is_composed=name == 'image_text_to_image',
      excluded=excluded)


class _World:
  """Pools {name: {id: Item}} of a split, and who answers whom."""

  def __init__(self, root, split, seed, n_texts):
    self._root, self.split, self._seed = pathlib.Path(root), split, seed
    path = self._root / f'images_{split}.json'
    if not path.is_file():
      raise ValueError(f'{root} has no {path.name}; build the shapes corpus '
                       'with `images` (data.images in the config)')
    self._table = entries.read_json(path)
    self._composed = entries.read_json(
        self._root / f'composed_images_{split}.json')
    scenes = shapes.sample_scenes(split, n_texts, seed)
    self._wordings = shapes.paraphrases(split, scenes, seed)
    again = _again(self._root, split, self._table, seed)
    self.pools = {
        'images': {e['image']: self._image(e['image']) for e in self._table},
        'captions': {f'{e["image"]}:': types.Item(
            f'{e["image"]}:', text=e['caption']) for e in self._table},
        'wordings': {f'{e["video"]}:2': types.Item(
            f'{e["video"]}:2', text=e['paraphrase']) for e in self._wordings},
        'again': {name: self._image(name) for name in again.values()}}
    self._alike = {}  # description -> images of it
    self._scene = {}
    for entry in self._table:
      key = shapes.description(entry['scene'])
      names = [entry['image'], *filter(None, [again.get(entry['image'])])]
      self._alike.setdefault(key, []).extend(names)
      self._scene |= dict.fromkeys(names, key)

  def _image(self, name):
    return types.Item(name, image=str(self._root / 'images' / name))

  def queries(self, task):
    """[(Item, ids of its answers, ids that are no answers)]."""
    return getattr(self, f'_{task}')()

  def _text_to_image(self):
    return [(types.Item(f'{e["image"]}?', text=e['caption']), [e['image']], ())
            for e in self._table]

  def _image_to_text(self):
    return [(self._image(e['image']), [f'{e["image"]}:'], ())
            for e in self._table]

  def _text_to_text(self):
    return [(types.Item(f'{e["video"]}:1', text=e['caption']),
             [f'{e["video"]}:2'], ()) for e in self._wordings]

  def _image_to_image(self):
    found = []
    for entry in self._table:
      name = entry['image']
      others = [o for o in self._alike[self._scene[name]] if o != name]
      if others:
        found.append((self._image(name), others, (name,)))
    return found

  def _image_text_to_image(self):
    """Every drawing of the target's shapes is an answer."""
    table, queries = self._composed, {}
    if self.split == 'train' and len(table) > CHANGES * len(self._table):
      chosen = np.random.default_rng([self._seed, 12]).permutation(len(table))
      table = [table[i] for i in chosen[:CHANGES * len(self._table)]]
    for entry in table:
      name = entry['image']
      item, answers = queries.setdefault((name, entry['text']), (types.Item(
          f'{name}>{entry["target"]}', entry['text'],
          self._image(name).image), {}))
      answers |= dict.fromkeys(self._alike[self._scene[entry['target']]])
    return [(item, list(answers), (name,))
            for (name, _), (item, answers) in queries.items()]


def _again(root, split, table, seed):
  """{image: another drawing of it}, drawn where it is missing.

  The train split has several drawings of each scene already.
  """
  if split == 'train':
    return {}
  found = {}
  for i, entry in enumerate(table):
    name = entry['image'].replace('.png', '-again.png')
    path = root / 'images' / name
    if not path.is_file():
      rng = np.random.default_rng([seed, 11, i])
      frames = render.draw(shapes.redrawn(rng, entry['scene']),
                           _side(root))
      files.write_atomically(path, render.encode_image(frames[0]),
                             durable=False)
    found[entry['image']] = name
  return found


def _side(root):
  return entries.read_json(root / 'manifest.json')['image_px']
