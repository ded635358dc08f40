"""From rows of captions to a Split; shares that are held out of others."""
import hashlib
import os
from typing import NamedTuple

import numpy as np

from jaxret.data import closed, sets, types


class Row(NamedTuple):
  """One entry of a caption file. modality: 'video' or 'image'."""
  id: str
  modality: str
  path: str
  captions: tuple[str, ...]


class Rows(list):
  """[Row], and the types.LeftOut of those of their file that are not there.

  files: paths of the data files that were read.
  """

  def __init__(self, rows=(), left_out=(), files=()):
    super().__init__(rows)
    self.left_out, self.files = tuple(left_out), tuple(map(str, files))

  def like(self, rows):
    """Others of the same files."""
    return Rows(rows, self.left_out, self.files)


def open_split(name, read, section, split, remedy=''):
  """The types.Split of a data set, from its rows.

  read: split -> Rows or [Row], empty where the data set has no such split.
  section: optional are
    validation_fraction: share of the train videos held out as validation
      where the source has no such split (default 0);
    train_on_all: a split that is not there holds what test does (default
      False).
  remedy: what else to do about a split without entries.
  Errors: ValueError for that, and for two files with one id.
  """
  rows = _rows_of(read, getattr(section, 'validation_fraction', 0.0), split)
  if not rows and getattr(section, 'train_on_all', False):
    closed.check('test', name)
    rows = read('test')
  if not rows:
    message = f'data set {name!r} has no entries for split {split!r}'
    if split == 'validation':
      remedy = ('set data.validation_fraction, for example 0.05, to hold out '
                'train videos')
    raise ValueError('; '.join(filter(None, (message, remedy))))
  return _split(name, split, rows)


def note(trained_on, split):
  """What is to be said of results on a split that was trained on, or ''.

  trained_on: the `data` sections of the trainings behind the weights. Files
  count as the same where their paths are, media without a path do not count; a
  data set that is gone is passed over.
  """
  seen = set()
  for section in trained_on:
    try:
      if not getattr(sets.get(section.name, 'load'), 'SPLITS_APART', False):
        seen |= _files(sets.load(section, 'train'))
    except ValueError:
      continue
  if not seen or seen.isdisjoint(_files(split)):
    return ''
  return ('trained and evaluated on the same clips: this checks the pipeline, '
          'it is no result')


def _files(split):
  media = (item.image if item.video is None else item.video
           for item in split.videos)
  return {os.path.realpath(path) for medium in media
          for path in (medium if isinstance(medium, tuple) else (medium,))
          if isinstance(path, str)}


def _rows_of(read, fraction, split):
  """The split's rows, less or only those held out where it has none."""
  rows = read(split)
  if split == 'validation' and not rows:
    train = read('train')
    held = held_out(train, fraction)[1]
    return train.like(held) if isinstance(train, Rows) else held
  if split == 'train' and fraction and not read('validation'):
    kept = held_out(rows, fraction)[0]
    return rows.like(kept) if isinstance(rows, Rows) else kept
  return rows


def held_out(rows, fraction):
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
                     np.array(text_video, np.int32),
                     left_out=getattr(rows, 'left_out', ()),
                     files=getattr(rows, 'files', ()))
