"""Caption files: JSON lists of {"video" or "image": file, "caption": text}.

BLiM's authors keep the benchmarks that it reports in a layout of their own.
"""
import dataclasses
from collections.abc import Callable

from jaxret.data import entries, types
from jaxret.data.sets import splits
from jaxret.data.tabular import parts
from jaxret.data.tabular import rows as tabular

_ANNOTATIONS_FROM = 'https://github.com/mlvlab/BLiM (section Dataset)'


@dataclasses.dataclass(frozen=True)
class Annotations:
  """Where the authors' files lie and how they read them (spec section 8).

  train, test: names of the files; there is no validation. separator: joins a
  list of sentences to one caption; None = one string. video_id: (path of the
  file, index of the entry, its video) -> id; default up to the first dot.
  """
  train: str
  test: str
  separator: str | None
  videos_from: str
  video_id: Callable = lambda path, i, video: video.split('.')[0]


def open_split(name, annotations, section, split):
  """The types.Split of a benchmark in the layout of BLiM's authors.

  Where its files are not there and tables are, as on the hub, those are read.
  """
  return splits.open_split(
      name, lambda split: _read_annotations(name, annotations, section, split),
      section, split)


def _read_annotations(name, annotations, section, split):
  if split == 'validation':
    return []  # the authors have none
  wanted = (
      f'wanted {annotations.train}, {annotations.test} and videos/ or '
      f'features/ in it: the json files and features from {_ANNOTATIONS_FROM}, '
      f'the videos from {annotations.videos_from}')
  root = entries.root_of(getattr(section, 'root', None), name, wanted)
  theirs = annotations.train, annotations.test
  if not any((root / name).exists() for name in theirs) and parts.parts(root):
    rows = tabular.read(root, section, split)
    return rows if annotations.separator is None else tabular.paragraphs(rows)
  path = entries.present(root, getattr(annotations, split), wanted)
  def read_row(i, entry):
    video = entries.field(path, i, entry, 'video')
    kind = str if annotations.separator is None else list
    return splits.Row(
        annotations.video_id(path, i, video), 'video',
        entries.below(root / 'videos', video),
        _texts(path, i, entry, kind, annotations.separator))
  return splits.Rows(*entries.usable(path, read(path), read_row))


def rows(root, path, allow_outside=False):
  """[splits.Row] of entries with a video or an image and captions.

  The files lie in `root`, or in videos/ or images/ in it; elsewhere, by an
  absolute name or '..', if allow_outside.
  """
  found = []
  for i, entry in enumerate(read(path)):
    modalities = [key for key in ('video', 'image') if key in entry]
    if len(modalities) != 1:
      raise entries.wrong(path, i, f'fields {", ".join(entry) or "none"}',
                          "'caption' and one of 'video' and 'image'")
    name = entries.field(path, i, entry, modalities[0])
    if not allow_outside and not entries.is_inside(name):
      raise entries.wrong(
          path, i, f'{modalities[0]} {name!r}, which is not in its folder',
          'a file below it; or set data.allow_outside=True')
    found.append(splits.Row(
        name, modalities[0],
        entries.find(root, name, ('', 'videos', 'images'), allow_outside),
        _texts(path, i, entry, (str, list))))
  return found


def read(path):
  """The entries of a caption file, unchecked but for being objects."""
  return entries.listed(path, entries.read_json(path))


def _texts(path, i, entry, kinds, separator=None):
  """The captions of an entry, or what they make when joined; none is blank."""
  captions = entries.field(path, i, entry, 'caption', kinds)
  captions = [captions] if isinstance(captions, str) else captions
  strings = all(isinstance(caption, str) for caption in captions)
  if strings and separator is not None:
    captions = [separator.join(captions)]
  for caption in captions:
    if not isinstance(caption, str) or not caption.strip() or (
        types.is_broken(caption)):
      raise entries.wrong(path, i, f'the caption {caption!r:.60}', 'a text')
  return tuple(caption.strip() for caption in captions)
