"""Captions in two languages, paired by key, in the format of NRCCR and LECCR.

A line of `TextData/*.caption.txt` is '<visual id>#<tag>#<number> <text>'. The
tag of English is 'enc', that of its machine translation 'enc2xx', that of
texts which people wrote in the language 'xx'. jaxret does not translate:
training texts in the language come from a file of translations.
"""
import dataclasses
import pathlib
import re
from typing import NamedTuple

import numpy as np

from jaxret import files
from jaxret.data import entries, hub, types

MAX_WORDS = 30


class Caption(NamedTuple):
  """One line. where: 'file, line n', for messages."""
  key: str
  text: str
  where: str

  @property
  def visual_id(self):
    return visual_id(self.key)

  @property
  def tag(self):
    return self.key.split('#')[1]


@dataclasses.dataclass(frozen=True)
class ParallelSplit(types.Split):
  """A split whose texts are in English with a translation, or translated only.

  `videos` are the images or videos. To train, `texts` are the English captions
  and `translations[i]` is text i in the target language; to evaluate, `texts`
  are in the target language and `translations` is empty. descriptions: of each
  visual one text in English; empty where none are wanted.
  """
  translations: tuple[types.Item, ...] = ()
  descriptions: tuple[str, ...] = ()

  def without(self, video_ids):
    drop = set(video_ids)
    if not drop:
      return self
    kept = super().without(drop)
    kept_visual = [video.id not in drop for video in self.videos]
    return dataclasses.replace(
        kept,
        translations=tuple(
            text for text, visual in zip(self.translations, self.text_video)
            if kept_visual[visual]),
        descriptions=tuple(
            text for text, keep in zip(self.descriptions, kept_visual)
            if keep))


@dataclasses.dataclass(frozen=True)
class Layout:
  """Names of a data set's files under its root; '{language}' is filled in.

  name: of the data set. texts: {split: stem of the caption file}; translated:
  of the training texts' translations. ids: {split: name of the id list}, in
  `id_folders`, the first that is there. names: list of 'id file', for sets
  whose files have other names than their ids. modality: 'image' or 'video'.
  exceptions: {(language, split): stem} of caption files named otherwise.
  """
  name: str
  texts: dict[str, str]
  translated: str
  ids: dict[str, str]
  modality: str
  names: str | None = None
  # LECCR keeps the lists under img_id or video_id, NRCCR with the features.
  id_folders: tuple[str, ...] = ('img_id', 'video_id', 'FeatureData')
  exceptions: dict[tuple[str, str], str] = dataclasses.field(
      default_factory=dict)


VIDEO_IDS = {split: f'{word}_id.txt' for split, word in (
    ('train', 'train'), ('validation', 'val'), ('test', 'test'))}


def clean(text, max_words=MAX_WORDS):
  """Lower case, no punctuation, at most `max_words` words between spaces.

  The authors' pre_caption; Chinese and Japanese are one word and stay whole.
  Errors: ValueError when nothing is left.
  """
  text = re.sub(r"[,.'!?\"()*#:;~]", ' ', text.lower())
  text = text.replace('-', ' ').replace('/', ' ')
  text = text.replace('<person>', 'person')
  text = re.sub(r'\s{2,}', ' ', text).rstrip('\n').strip(' ')
  text = ' '.join(text.split(' ')[:max_words])
  if not text:
    raise ValueError('nothing but punctuation')
  return text


def visual_id(key):
  """'1000092795.jpg#enc#3' -> '1000092795'."""
  name = key.split('#')[0]
  return name[:-4] if name.endswith(('.jpg', '.mp4')) else name


def read_captions(path):
  """The Captions of a file, in its order.

  Errors: ValueError with file and line for a line without key or text, and for
  a key that came before.
  """
  captions, lines = [], {}
  for number, line in enumerate(_lines(path), 1):
    where = f'{path}, line {number}'
    key, _, text = line.strip().partition(' ')
    if key.count('#') != 2 or not text.strip():
      raise ValueError(f"{where}: got {line.strip()[:60]!r}, wanted "
                       "'id#tag#number text'")
    if key in lines:
      raise ValueError(f'{where}: the key {key!r} is already on line '
                       f'{lines[key]}; give each caption its own number')
    lines[key] = number
    captions.append(Caption(key, text, where))
  if not captions:
    raise ValueError(f"{path} is empty; wanted lines 'id#tag#number text'")
  return captions


def read_ids(path):
  """{id: line number from 0}, in the order of an id list."""
  ids = {}
  for number, line in enumerate(_lines(path), 1):
    name = line
    if not name or name in ids:
      reason = 'an empty line' if not name else f'{name!r} again'
      raise ValueError(f'{path}, line {number}: got {reason}, wanted one id '
                       'per line, each once')
    ids[name] = number - 1
  if not ids:
    raise ValueError(f'{path} is empty; wanted one id per line')
  return ids


def translated_language(path):
  """'fr' of '..._google_enc2fr.caption.txt': what follows the first '2'."""
  stem = pathlib.Path(path).name.split('.', 1)[0]
  _, found, language = stem.partition('2')
  if not found or not language:
    raise ValueError(
        f"{path} is not named as a translation; wanted '..._enc2xx', xx the "
        'language. Texts that people wrote in the language are not trained on')
  return language


def pair(english, translated, language):
  """[(English Caption, its translation)], in the order of the English.

  Errors: ValueError with file and line for a caption without its pair, and for
  texts that people wrote in the language: training does without them.
  """
  wanted = f'enc2{language}'
  for caption in translated:
    if caption.tag != wanted:
      raise ValueError(
          f'{caption.where}: got the tag {caption.tag!r}, wanted {wanted!r}, '
          'machine translations of the English captions: texts that people '
          'wrote in the language are not trained on in this setting')
  by_key = {caption.key: caption for caption in translated}
  pairs = []
  for caption in english:
    key = caption.key.replace('#enc#', f'#{wanted}#')
    if key == caption.key:
      raise ValueError(f"{caption.where}: got the tag {caption.tag!r}, wanted "
                       "'enc', the English captions")
    if key not in by_key:
      raise ValueError(
          f'{caption.where}: {caption.key!r} has no pair {key!r} in '
          f'{translated[0].where.rpartition(", line ")[0]}; translate it or '
          'remove it')
    pairs.append((caption, by_key.pop(key)))
  if by_key:
    left = next(iter(by_key.values()))
    raise ValueError(
        f'{left.where}: {left.key!r} has no pair in English; add it to '
        f'{english[0].where.rpartition(", line ")[0]} or remove it')
  return pairs


def read_descriptions(directory, ids, names=None):
  """{id: text} from a directory of <id>.txt, as the authors publish them.

  ids: {id: 'file, line n' that asks for it}. names: {id: file name} where
  files are named otherwise. Errors: ValueError naming that line.
  """
  directory = pathlib.Path(directory).expanduser()
  found = {}
  for visual in ids:
    stem = visual if names is None else _stem(names[visual])
    # As jaxret exports it, or as it stands: their authors wrote plain names.
    for name in dict.fromkeys((files.name_of_id(stem), stem)):
      path = directory / f'{name}.txt'
      if visual not in found and path.is_file():
        found[visual] = read_description(path)
  return require_descriptions(found, ids, directory)


def read_description(path):
  """The text of one file, without the newlines at its ends."""
  return entries.read_text(path).replace('\r\n', '\n').strip('\n')


def require_descriptions(found, ids, source, empty_ok=False):
  """`found`, {id: text}, if it has a text for each of `ids`.

  ids: {id: 'file, line n' that asks for it}; source: where they came from;
  empty_ok: an MLLM may have nothing to say.
  Errors: ValueError naming the first line whose description is missing.
  """
  missing = [visual for visual in ids if visual not in found or not (
      empty_ok or found[visual].strip())]
  if missing:
    raise ValueError(
        f'{ids[missing[0]]}: {missing[0]!r} has no description in {source} '
        f'({len(missing)} of {len(ids)} are missing); describe all first')
  return {visual: found[visual] for visual in ids}


def _stem(name):
  return name.removesuffix('.jpg')


def open_split(layout, section, split, language):
  """(ParallelSplit, id_lines) of the data set that `section` names.

  section: `root`, the directory, and `media`, '' = the images or videos lie
  there too.
  """
  if not section.root:
    raise ValueError(f'data.root is not set; give the directory of '
                     f'{layout.name}, in the layout of NRCCR and LECCR')
  root = hub.local(section.root)
  return (read(layout, root, split, language, media=section.media or root),
          id_lines(layout, root, split, language))


def read(layout, root, split, language, descriptions=None, media=None):
  """A ParallelSplit of a data set.

  split: 'train', 'validation' or 'test'. language: 'fr', say. descriptions:
  directory of <id>.txt, or {id: text}, or None. media: directory of images or
  videos. The visuals to train are those of the id list, in its order; those to
  evaluate come in the order of the captions.
  Errors: ValueError with file and line for what does not fit.
  """
  root = pathlib.Path(root).expanduser()
  id_path = _id_path(root, layout, split, language)
  ids, translated = read_ids(id_path), ()
  captions = read_captions(
      _caption_path(root, layout, split, language))
  if split == 'train':
    path = root / 'TextData' / (
        layout.translated.format(language=language) + '.caption.txt')
    pairs = pair(captions, read_captions(path), translated_language(path))
    translated = tuple(_item(theirs) for _, theirs in pairs)
  index = dict(ids) if split == 'train' else {}
  for caption in captions:
    if caption.visual_id not in ids:
      raise ValueError(f'{caption.where}: {caption.visual_id!r} is not in '
                       f'{id_path}; add it there or remove the caption')
    index.setdefault(caption.visual_id, len(index))
  where = {visual: f'{id_path}, line {ids[visual] + 1}' for visual in index}
  names = _file_names(root, layout, id_path.parent, where)
  return ParallelSplit(
      layout.name, split,
      tuple(_visual(visual, layout.modality, media, names)
            for visual in index),
      tuple(_item(caption) for caption in captions),
      np.array([index[c.visual_id] for c in captions], np.int32),
      translated, _descriptions(descriptions, where, names))


def _descriptions(source, where, names):
  if source is None:
    return ()
  if isinstance(source, dict):
    found = require_descriptions(source, where, 'the cache of descriptions')
  else:
    found = read_descriptions(source, where, names)
  return tuple(found.values())


def id_lines(layout, root, split, language):
  """{id: 'file, line n'} of the id list of a split, for messages."""
  path = _id_path(pathlib.Path(root).expanduser(), layout, split, language)
  return {visual: f'{path}, line {number + 1}'
          for visual, number in read_ids(path).items()}


def _id_path(root, layout, split, language):
  name = layout.ids[split].format(language=language)
  tried = [root / folder / name for folder in layout.id_folders]
  for path in tried:
    if path.is_file():
      return path
  raise ValueError(f'{root} has no {name} in '
                   f'{", ".join(layout.id_folders)}; wanted the id list of '
                   f'split {split}')


def _caption_path(root, layout, split, language):
  stem = layout.exceptions.get((language, split)) or layout.texts[
      split].format(language=language)
  return root / 'TextData' / f'{stem}.caption.txt'


def _item(caption):
  try:
    return types.Item(caption.key, text=clean(caption.text))
  except ValueError as error:
    raise ValueError(f'{caption.where}: the caption is {error}; give it a text '
                     'or remove it') from None


def _visual(visual, modality, media, names):
  name = names[visual] if names else (
      visual + ('.jpg' if modality == 'image' else '.mp4'))
  path = name if media is None else entries.below(media, name)
  return types.Item(visual, **{modality: path})


def _file_names(root, layout, folder, where):
  """{id: file name} of sets that have such a list, else None."""
  if layout.names is None:
    return None
  path = next((path for path in (folder / layout.names, root / layout.names)
               if path.is_file()), folder / layout.names)
  names = {}
  for number, line in enumerate(_lines(path), 1):
    visual, _, name = line.partition(' ')
    if not name:
      raise ValueError(f"{path}, line {number}: got {line.strip()!r}, wanted "
                       "'id file'")
    names[visual] = name
  for visual, asked in where.items():
    if visual not in names:
      raise ValueError(f'{asked}: {visual!r} has no file name in {path}')
  return names


def _lines(path):
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file; wanted a data set in the layout '
                     'of NRCCR and LECCR')
  return [line for _, line in entries.lines(path)]
