"""From the files of a data set to a Split: shapes, own folders, benchmarks."""
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxret.data import entries, types

SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Where the authors' files lie and how they read them (spec section 8).

  separator: joins a list of sentences to one caption; None = one string.
  limit_s: only the first seconds of a longer video are sampled.
  """
  train: str
  test: str
  separator: str | None
  videos_from: str
  limit_s: float | None = None


BENCHMARKS = {
    'didemo': Benchmark(
        'didemo_ret_train.json', 'didemo_ret_test.json', ' ',
        'https://github.com/LisaAnne/LocalizingMoments', limit_s=30.0),
    'activitynet': Benchmark(
        'anet_ret_train.json', 'anet_ret_val_1.json', '',
        'http://activity-net.org'),
    'lsmdc': Benchmark(
        'lsmdc_ret_train.json', 'lsmdc_ret_test_1000.json', None,
        'https://sites.google.com/site/describingmovies'),
    'msrvtt': Benchmark(
        'msrvtt_ret_train.json', 'msrvtt_ret_test.json', None,
        'https://www.microsoft.com/en-us/research/publication/'
        'msr-vtt-a-large-video-description-dataset-for-bridging-video-and-'
        'language'),
}
_ANNOTATIONS_FROM = 'https://github.com/mlvlab/BLiM (section Dataset)'


class _Row(NamedTuple):
  """One entry of a caption file. modality: 'video' or 'image'."""
  id: str
  modality: str
  path: str
  captions: tuple[str, ...]


def load(config, split):
  """Reads one split of the data set that `config` names.

  config: `name` (shapes, folder, or a key of BENCHMARKS) and `root`, the
  directory; optional are
    validation_fraction: share of the train videos held out as validation
      where the source has no such split (default 0);
    test_fraction: for a folder whose entries name no split, the share of the
      videos in test; the others are train (default 1: all are test);
    train_on_all: a split that is not there holds what test does, for a
      folder whose entries name no split (default False);
    sizes, seed, images, renderings: of the rendered shapes corpus.
  split: 'train', 'validation' or 'test'.
  Media files are not opened: one that is missing keeps its path here.
  Errors: ValueError for a missing directory or file, a wrong field, two files
  with one id, and a split without entries.
  """
  if split not in SPLITS:
    raise ValueError(f'split {split!r} is unknown; choose from {SPLITS}')
  if config.name == 'shapes':
    read = _read_shapes
  elif config.name == 'folder':
    read = _read_folder
  elif config.name in BENCHMARKS:
    read = _read_benchmark
  else:
    known = ', '.join(('shapes', 'folder', *BENCHMARKS))
    raise ValueError(
        f'data.name {config.name!r} is unknown; choose from {known}')
  rows = _rows_of(read, config, split)
  if not rows and getattr(config, 'train_on_all', False):
    rows = read(config, 'test')
  if not rows:
    raise ValueError(_no_rows(config, split))
  return _split(config.name, split, rows)


def note(trained_on, split):
  """What is to be said of results on a split that was trained on, or ''.

  trained_on: the `data` sections of the trainings behind the weights. Files
  count as the same where their paths are; a folder that is gone is passed over.
  """
  seen = set()
  for data in trained_on:
    if data.name == 'folder':  # other sources keep their splits apart
      try:
        seen |= _files(load(data, 'train'))
      except ValueError:
        continue
  if not seen or seen.isdisjoint(_files(split)):
    return ''
  return ('trained and evaluated on the same clips: this checks the pipeline, '
          'it is no result')


def _files(split):
  return {os.path.realpath(video.video or video.image)
          for video in split.videos}


def _rows_of(read, config, split):
  """The split's rows, less or only those held out where it has none."""
  rows = read(config, split)
  fraction = getattr(config, 'validation_fraction', 0.0)
  if split == 'validation' and not rows:
    return _held_out(read(config, 'train'), fraction)[1]
  if split == 'train' and fraction and not read(config, 'validation'):
    return _held_out(rows, fraction)[0]
  return rows


def _no_rows(config, split):
  message = f'data set {config.name!r} has no entries for split {split!r}'
  if split == 'validation':
    return (f'{message}; set data.validation_fraction, for example 0.05, to '
            'hold out train videos')
  if config.name == 'folder':
    return (f'{message}; give entries of captions.json "split": "{split}" or '
            'set data.test_fraction below 1')
  return message


def _held_out(rows, fraction):
  """(kept, held out): whole videos, chosen by a hash of their ids alone."""
  ids = sorted({row.id for row in rows}, key=_hash)
  if not fraction or len(ids) < 2:
    return rows, []
  n_held = min(max(1, round(fraction * len(ids))), len(ids) - 1)
  held = set(ids[:n_held])
  return ([row for row in rows if row.id not in held],
          [row for row in rows if row.id in held])


def _hash(video_id):
  return hashlib.sha256(video_id.encode()).digest()


def _split(dataset, name, rows):
  videos, texts, text_video, index, count = [], [], [], {}, []
  for row in rows:
    if row.id not in index:
      index[row.id] = len(videos)
      videos.append(types.Item(row.id, **{row.modality: row.path}))
      count.append(0)
    i = index[row.id]
    if row.path != getattr(videos[i], row.modality):
      other = videos[i].video or videos[i].image
      raise ValueError(
          f'data set {dataset!r}, split {name!r}: {other} and {row.path} have '
          f'the same id {row.id!r}; rename one of them')
    for caption in row.captions:
      texts.append(types.Item(f'{row.id}#{count[i]}', text=caption))
      text_video.append(i)
      count[i] += 1
  return types.Split(dataset, name, tuple(videos), tuple(texts),
                     np.array(text_video, np.int32))


def _read_shapes(config, split):
  root = shapes_root(config)
  return _rows(root, root / f'captions_{split}.json')


def shapes_root(config):
  """Where the rendered corpus of `config` lies; it is built if need be."""
  from jaxret.data.shapes import world as shapes
  shapes_fields = ('sizes', 'seed', 'images', 'renderings')
  chosen = {key: getattr(config, key) for key in shapes_fields
            if getattr(config, key, None) is not None}
  for key in {'sizes', 'images'} & set(chosen):
    chosen[key] = dict(chosen[key])
  root = _root(config)
  if root is None:
    key = json.dumps(chosen, sort_keys=True).encode()
    root = cache_dir() / f'shapes-{hashlib.sha256(key).hexdigest()[:12]}'
  shapes.build(root, **chosen)
  return root


def cache_dir():
  """Where corpora are built: $JAXRET_CACHE, or ~/.cache/jaxret."""
  chosen = os.environ.get('JAXRET_CACHE')
  return pathlib.Path(chosen or '~/.cache/jaxret').expanduser()


def _read_folder(config, split):
  wanted = ('wanted captions.json, a list of {"video": file, "caption": text}, '
            'and the files beside it or in videos/ or images/')
  root = entries.root_of(_root(config), config.name, wanted)
  if not any(root.iterdir()):
    raise ValueError(f'data.root {root} is empty; {wanted}')
  path = root / 'captions.json'
  if not path.is_file():
    raise ValueError(f'data.root {root} has no captions.json; {wanted}')
  rows = _rows(root, path)
  if not any(os.path.isfile(row.path) for row in rows):
    raise ValueError(
        f'{path}: none of the {len(rows)} files named there lies in {root}, '
        f'{root / "videos"} or {root / "images"}; {wanted}')
  labels = _labels(path, rows)
  if any(labels):
    return [row for row, label in zip(rows, labels) if label == split]
  fraction = getattr(config, 'test_fraction', 1.0)
  train, test = ([], rows) if fraction >= 1 else _held_out(rows, fraction)
  return {'train': train, 'validation': [], 'test': test}[split]


def _labels(path, rows):
  """The split that each entry names, or None."""
  labels, of_video = [], {}
  for i, (entry, row) in enumerate(zip(_read(path), rows)):
    label = entry.get('split')
    if label is not None and label not in SPLITS:
      raise entries.wrong(
          path, i, f"field 'split' {label!r}", f'one of {SPLITS}')
    if of_video.setdefault(row.id, label) != label:
      raise entries.wrong(path, i, f'{row.id!r} in split {label!r}',
                          f'{of_video[row.id]!r} as in its earlier entry')
    if labels and (label is None) != (labels[0] is None):
      raise entries.wrong(path, i, f'split {label!r}',
                          'a split in all entries or in none')
    labels.append(label)
  return labels


def _read_benchmark(config, split):
  if split == 'validation':
    return []  # the authors have none
  benchmark = BENCHMARKS[config.name]
  wanted = (
      f'wanted {benchmark.train}, {benchmark.test} and videos/ or features/ '
      f'in it: the json files and features from {_ANNOTATIONS_FROM}, the '
      f'videos from {benchmark.videos_from}')
  root = entries.root_of(_root(config), config.name, wanted)
  path = root / getattr(benchmark, split)
  if not path.is_file():
    raise ValueError(f'data.root {root} has no {path.name}; {wanted}')
  rows = []
  for i, entry in enumerate(_read(path)):
    video = entries.field(path, i, entry, 'video')
    kind = str if benchmark.separator is None else list
    rows.append(_Row(
        _benchmark_id(config.name, path, i, video), 'video',
        str(root / 'videos' / video),
        _texts(path, i, entry, kind, benchmark.separator)))
  return rows


def _benchmark_id(name, path, i, video):
  if name != 'lsmdc':
    return video.split('.')[0]
  parts = video[:-4].split('/')  # clip names hold dots: movie/clip.avi
  if len(parts) < 2:
    raise entries.wrong(path, i, f"field 'video' {video!r}", 'movie/clip.ext')
  return parts[1]


def _root(config):
  root = getattr(config, 'root', None)
  return pathlib.Path(root).expanduser() if root else None


def _rows(root, path):
  """Entries with a video or an image and one caption or several."""
  rows = []
  for i, entry in enumerate(_read(path)):
    modalities = [key for key in ('video', 'image') if key in entry]
    if len(modalities) != 1:
      raise entries.wrong(path, i, f'fields {", ".join(entry) or "none"}',
                          "'caption' and one of 'video' and 'image'")
    name = entries.field(path, i, entry, modalities[0])
    rows.append(_Row(
        name, modalities[0],
        entries.find(root, name, ('', 'videos', 'images')),
        _texts(path, i, entry, (str, list))))
  return rows


def _read(path):
  return entries.listed(path, entries.read_json(path))


def _texts(path, i, entry, kinds, separator=None):
  """The captions of an entry, or what they make when joined; none is blank."""
  found = entries.field(path, i, entry, 'caption', kinds)
  found = [found] if isinstance(found, str) else found
  strings = all(isinstance(caption, str) for caption in found)
  if strings and separator is not None:
    found = [separator.join(found)]
  for caption in found:
    if not isinstance(caption, str) or not caption.strip():
      raise entries.wrong(path, i, f'the caption {caption!r}', 'a text')
  return tuple(caption.strip() for caption in found)
