"""CCLM's caption files: JSON lists of {caption, image, image_id}.

To train, an entry has one caption, and the file of translations lists the same
images in the same order. To evaluate, `caption` is a list.
"""
import pathlib

import numpy as np

from jaxret.data import entries, hub, types
from jaxret.data.sets import nrccr


def parallel(section, split, language):
  """The files that `section.files` names, in `section.root`.

  files: train, translated, validation and test. media: directory of the
  images, '' = they lie in root. The names of the files say the language.
  """
  if not section.root:
    raise ValueError('data.root is not set; give the directory of cclm, with '
                     'the files that data.files names')
  if not section.files[split]:
    raise ValueError(f'data.files.{split} is not set; give a JSON file in '
                     'data.root')
  root = hub.local(section.root)
  translated = section.files.translated and root / section.files.translated
  found = read(root / section.files[split], split, section.media or root,
               translated or None)
  return found, {video.id: f'{found.dataset} {split}' for video in found.videos}


def file_names(section, split):
  """By the stems of the images."""
  return {video.id: pathlib.Path(video.image).stem for video in split.videos}


def read(path, split, media, translated=None, descriptions=None):
  """A ParallelSplit of images.

  path: the JSON file; in English to train. translated: to train, the file of
  its machine translations, named as such ('..._enc2fr.json'). media: directory
  of the images. descriptions: directory of <image stem>.txt, or {id: text}.
  Errors: ValueError with file and entry for what does not fit.
  """
  rows = _rows(path, one=split == 'train')
  theirs = []
  if split == 'train':
    theirs = _translations(path, rows, translated)
  index, videos, where = {}, [], {}
  for visual, image, _, entry in rows:
    if visual not in index:
      index[visual] = len(index)
      where[visual] = entry
      videos.append(types.Item(
          visual, image=entries.below(media, image)))
  texts, text_video = [], []
  for visual, _, captions, entry in rows:
    for caption in captions:
      texts.append(_item(f'{visual}#{len(texts)}', caption, entry))
      text_video.append(index[visual])
  if descriptions is not None and not isinstance(descriptions, dict):
    names = {video.id: pathlib.Path(video.image).stem for video in videos}
    descriptions = nrccr.read_descriptions(descriptions, where, names)
  elif descriptions is not None:
    descriptions = nrccr.require_descriptions(
        descriptions, where, 'the cache of descriptions')
  return nrccr.ParallelSplit(
      pathlib.Path(path).stem, split, tuple(videos), tuple(texts),
      np.array(text_video, np.int32),
      tuple(_item(f'{visual}#{i}', captions[0], entry)
            for i, (visual, _, captions, entry) in enumerate(theirs)),
      tuple((descriptions or {}).values()))


def _translations(path, rows, translated):
  if translated is None:
    raise ValueError(
        f'{path}: no translations to train on; give a file of machine '
        "translations named '..._enc2xx.json': jaxret does not translate")
  nrccr.translated_language(translated)
  theirs = _rows(translated, one=True)
  for ours, other in zip(rows, theirs):
    if ours[0] != other[0]:
      raise ValueError(
          f'{other[3]}: got image_id {other[0]!r}, wanted {ours[0]!r} as in '
          f'{ours[3]}: both files list the same images in the same order')
  if len(rows) != len(theirs):
    longer = max(rows, theirs, key=len)
    raise ValueError(
        f'{longer[min(len(rows), len(theirs))][3]}: this caption has no pair '
        'in the other language; translate it or remove it')
  return theirs


def _rows(path, one):
  """[(image_id, image, captions, 'file, entry n')]."""
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise ValueError(f'{path}: no such file; wanted a JSON list of '
                     '{caption, image, image_id}')
  content = entries.read_json(path)
  if not isinstance(content, list) or not content:
    raise ValueError(f'{path}: wanted a list of {{caption, image, image_id}}')
  return [_row(entry, f'{path}, entry {number}', one)
          for number, entry in enumerate(content, 1)]


def _row(entry, where, one):
  if not isinstance(entry, dict) or not isinstance(entry.get('image'), str):
    raise ValueError(f"{where}: got no field 'image', wanted {{caption, image, "
                     'image_id}')
  captions = entry.get('caption')
  if one and not isinstance(captions, str):
    raise ValueError(f"{where}: got no single 'caption'; to train, an entry "
                     'has one, a string')
  captions = [captions] if isinstance(captions, str) else captions
  if not captions or not isinstance(captions, list) or not all(
      isinstance(caption, str) for caption in captions):
    raise ValueError(f"{where}: got no 'caption', wanted a string or a list of "
                     'strings')
  image = entry['image']
  visual = entry.get('image_id', pathlib.Path(image).stem)
  return str(visual), image, captions, where


def _item(key, text, where):
  try:
    return types.Item(key, text=nrccr.clean(text))
  except ValueError as error:
    raise ValueError(f'{where}: the caption is {error}; give it a text or '
                     'remove it') from None
