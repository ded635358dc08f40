"""Embedding tasks and training pairs of shapes world, all modalities mixed."""
import dataclasses
import pathlib

import numpy as np

from jaxret.data import entries, types
from jaxret.data.sets.pair_files import Pair
from jaxret.data.shapes import grains as grains_lib


def tasks(root, split, grains=(), seed=0):
  """The seven tasks of a split of a corpus that was built with `images`.

  text_to_video, video_to_text, text_to_image, image_to_text, text_to_text
  (another wording of the same), image_text_to_image and video_text_to_video
  (the same with one change). A composed query never answers with its own
  reference. For each of the `grains` besides <grain>_text_to_video and
  video_to_<grain>_text, see shapes.grains. Returns a tuple of types.Task.
  """
  root = pathlib.Path(root)
  found = []
  for kind, name in (('video', 'captions'), ('image', 'images')):
    found += _both_ways(root, kind, _table(root, name, split))
  found.append(_text_to_text(_table(root, 'paraphrases', split)))
  for kind, name, pool in (('image', 'composed_images', 'images'),
                           ('video', 'composed', 'captions')):
    files = [entry[kind] for entry in _table(root, pool, split)]
    found.append(_composed(root, kind, _table(root, name, split), files))
  for grain in grains:
    both = _both_ways(
        root, 'video', grains_lib.captions(root, split, grain, seed))
    found += [dataclasses.replace(task, name=task.name.replace(
        'text', f'{grain}_text')) for task in both]
  return tuple(found)


def training_pairs(root, split='train', grains=(), seed=0):
  """{source: pairs} of a split, under the names of the tasks.

  target_modality is that of the candidate. Returns lists of pairs.Pair.
  """
  root = pathlib.Path(root)
  sources = {}
  tables = [('video', '', _table(root, 'captions', split)),
            ('image', '', _table(root, 'images', split))]
  tables += [('video', f'{grain}_', grains_lib.captions(
      root, split, grain, seed)) for grain in grains]
  for kind, grain, table in tables:
    both = [(types.Item(f'{entry[kind]}:{grain}{i}', text=entry['caption']),
             _medium(root, kind, entry[kind]))
            for i, entry in enumerate(table)]
    sources[f'{grain}text_to_{kind}'] = [Pair(t, m, kind) for t, m in both]
    sources[f'{kind}_to_{grain}text'] = [Pair(m, t, 'text') for t, m in both]
  sources['text_to_text'] = [
      Pair(*_wordings(entry), 'text')
      for entry in _table(root, 'paraphrases', split)]
  for kind, name in (('image', 'composed_images'), ('video', 'composed')):
    sources[f'{kind}_text_to_{kind}'] = [
        Pair(_change(root, kind, entry), _medium(root, kind, entry['target']),
             kind) for entry in _table(root, name, split)]
  return {name: pairs for name, pairs in sources.items() if pairs}


def _table(root, name, split):
  """The entries of one file; no query may be composed in a small corpus."""
  path = root / f'{name}_{split}.json'
  if not path.is_file():
    raise ValueError(f'{root} has no {path.name}; build the shapes corpus with '
                     '`images` (data.images in the config)')
  return entries.read_json(path)


def _medium(root, kind, name):
  return types.Item(name, **{kind: str(root / f'{kind}s' / name)})


def _both_ways(root, kind, table):
  files = list(dict.fromkeys(entry[kind] for entry in table))
  index = {name: i for i, name in enumerate(files)}
  of_text = np.array([index[entry[kind]] for entry in table], np.int32)
  split = types.Split(
      'shapes', '', tuple(_medium(root, kind, name) for name in files),
      tuple(types.Item(f'{entry[kind]}:{i}', text=entry['caption'])
            for i, entry in enumerate(table)), of_text)
  to_medium, to_text = split.text_to_video(), split.video_to_text()
  return [dataclasses.replace(to_medium, name=f'text_to_{kind}'),
          dataclasses.replace(to_text, name=f'{kind}_to_text')]


def _wordings(entry):
  return (types.Item(f'{entry["video"]}:caption', text=entry['caption']),
          types.Item(f'{entry["video"]}:paraphrase',
                     text=entry['paraphrase']))


def _text_to_text(table):
  queries, candidates = zip(*map(_wordings, table))
  relevant = tuple(np.array([i], np.int32) for i in range(len(table)))
  return types.Task('text_to_text', queries, candidates, relevant)


def _change(root, kind, entry):
  """A reference and its change; the encoder puts the medium in front."""
  name = entry[kind]
  return types.Item(f'{name}>{entry["target"]}', entry['text'],
                    **{kind: str(root / f'{kind}s' / name)})


def _composed(root, kind, table, files):
  """Two entries that ask the same of one reference are one query."""
  files = list(dict.fromkeys(files))
  index = {name: i for i, name in enumerate(files)}
  queries = {}
  for entry in table:
    item, targets = queries.setdefault(
        (entry[kind], entry['text']), (_change(root, kind, entry), []))
    targets.append(index[entry['target']])
  if not queries:
    raise ValueError(f'{root} has no composed query for {kind}s; build it with '
                     f'more {kind}s')
  return types.Task(
      f'{kind}_text_to_{kind}',
      tuple(item for item, _ in queries.values()),
      tuple(_medium(root, kind, name) for name in files),
      tuple(np.unique(targets).astype(np.int32)
            for _, targets in queries.values()),
      excluded=tuple(np.array([index[name]], np.int32)
                     for name, _ in queries))
