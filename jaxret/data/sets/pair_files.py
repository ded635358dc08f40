"""Training pairs: a layout of JSON files, UNITE's published one."""
import json
import math
import os
import pathlib
from typing import NamedTuple

from jaxret.data import entries, types

_SIDES = ('query', 'candidate', 'negative')
_KEYS = (*_SIDES, 'target_modal', 'scores', 'grade')
MODALITIES = ('text', 'image', 'video')


class Pair(NamedTuple):
  """A query and its answer.

  target_modality: 'text', 'image', 'image,text', ..., of the candidate; None =
    what it has.
  negative: an item that is no answer, a tuple of several, or None.
  scores: a teacher's of the candidate and of each negative, or None.
  grade: how well the candidate answers, in any unit, or None.
  """
  query: types.Item
  candidate: types.Item
  target_modality: str | None
  negative: types.Item | tuple[types.Item, ...] | None = None
  scores: tuple[float, ...] | None = None
  grade: float | None = None


class PairFile:
  """The pairs of a file in UNITE's training format: len(), [i] -> Pair.

  A list of {"query": X, "candidate": X, "negative": X (optional),
  "target_modal": "text", "image", "text,image", ... (optional)} with X =
  {"text": str, "image": path, list or {"type", "image"}, "video": likewise},
  of which one at least (FusedRetTrainDataset in unite/dataset/ret_dataset.py
  of friedrichor/UNITE). The order of X's keys is kept: the prompt follows it.
  Without "target_modal" the candidate's own modalities are the target.
  Of ours besides: "negative" may be a list of X; "scores" are those of a
  teacher, a reranker say, of the candidate and of each negative; "grade" is
  how well the candidate answers, in place of negatives.

  path: of the JSON file; the paths in it are relative to `root`, default the
    file's directory, and lie below it unless allow_outside. Everything is
    checked here, no medium is opened.
  Errors: ValueError that names the file and the entry.
  """

  def __init__(self, path, root=None, allow_outside=False):
    self.path = pathlib.Path(path).expanduser()
    if not self.path.is_file():
      raise ValueError(f'{self.path} is not a file; wanted training pairs, a '
                       'list of {"query": ..., "candidate": ...}')
    self._root = str(root or self.path.parent)
    self._allow_outside = allow_outside
    self._entries = entries.listed(self.path, entries.read_json(self.path))
    for i, entry in enumerate(self._entries):
      self._check(i, entry)

  def __len__(self):
    return len(self._entries)

  def __getitem__(self, i):
    entry, name = self._entries[i], f'{self.path.name}:{i + 1}'
    query, candidate = (self._item(f'{name}:{side}', entry[side])
                        for side in _SIDES[:2])
    modality = entry.get('target_modal') or ','.join(
        key for key in MODALITIES if key in entry['candidate'])
    scores, grade = entry.get('scores'), entry.get('grade')
    return Pair(query, candidate, modality.replace(' ', ''),
                self._negative(f'{name}:negative', entry.get('negative')),
                None if scores is None else tuple(map(float, scores)),
                None if grade is None else float(grade))

  def _negative(self, name, content):
    """An Item, a tuple of several, or None."""
    if not isinstance(content, list):
      return self._item(name, content) if content else None
    found = tuple(self._item(f'{name}:{n}', one)
                  for n, one in enumerate(content, 1))
    return found[0] if len(found) == 1 else found

  def _check(self, i, entry):
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
      raise entries.wrong(self.path, i, f'the field {unknown[0]!r}',
                          f'{", ".join(_KEYS)}')
    for side in _SIDES[:2]:
      self._check_side(i, side, entries.field(self.path, i, entry, side, dict))
    negatives = self._check_negatives(i, entry)
    self._check_numbers(i, entry, negatives)
    if entry.get('target_modal') is not None:
      for word in entries.field(self.path, i, entry, 'target_modal').split(','):
        if word.strip() not in MODALITIES:
          raise entries.wrong(
              self.path, i, f'the modality {word.strip()!r} in target_modal',
              f'{", ".join(MODALITIES)}, or several joined by commas')

  def _check_negatives(self, i, entry):
    """How many there are."""
    if entry.get('negative') is None:
      return 0
    several = isinstance(entry['negative'], list)
    given = entry['negative'] if several else [entry['negative']]
    if not given:
      raise entries.wrong(self.path, i, 'an empty list as negative',
                          'one at least, or no such field')
    for one in given:
      self._check_side(i, 'negative', entries.field(
          self.path, i, {'negative': one}, 'negative', dict))
    return len(given)

  def _check_numbers(self, i, entry, n_negatives):
    """Of a teacher's scores and of a grade."""
    scores, grade = entry.get('scores'), entry.get('grade')
    if scores is not None and not (
        isinstance(scores, list) and all(map(_is_number, scores))
        and n_negatives and len(scores) == 1 + n_negatives):
      raise entries.wrong(
          self.path, i, f'the scores {scores!r:.60} with {n_negatives} '
          'negatives', "a list of numbers, the candidate's and one of each "
          'negative, of which there is one at least')
    if grade is not None and (not _is_number(grade) or n_negatives):
      raise entries.wrong(
          self.path, i, f'the grade {grade!r:.60} with {n_negatives} negatives',
          'a number, and no negative beside it')

  def _check_side(self, i, side, content):
    if not content or any(key not in MODALITIES for key in content):
      raise entries.wrong(
          self.path, i, f'{side!r} with {", ".join(content) or "nothing"}',
          f'one or more of {", ".join(MODALITIES)}')
    for key, value in content.items():
      if key == 'text':
        entries.field(self.path, i, content, key)
      elif not _paths(key, value):
        raise entries.wrong(self.path, i, f'{side!r} with {key} {value!r:.60}',
                            'a path, a list of paths or {"type", "image"}')
      elif not self._allow_outside:
        for medium in _paths(key, value):
          if not entries.is_inside(medium):
            raise entries.wrong(
                self.path, i, f'{side!r} with {key} {medium!r}, which is not '
                f'in {self._root}', 'a file below it; or set '
                'data.allow_outside=True')

  def _item(self, name, content):
    parts = {}
    for key, value in content.items():
      if key == 'text':
        parts[key] = value
      else:
        paths = tuple(os.path.join(self._root, p) for p in _paths(key, value))
        parts[key] = paths if len(paths) > 1 else paths[0]
    return types.Item(name, **parts, order=tuple(content))


class Pairs(list):
  """[Pair] of a data set; left_out: types.LeftOut of what is none."""

  def __init__(self, pairs, left_out=()):
    super().__init__(pairs)
    self.left_out = left_out


def of_split(split):
  """{source: pairs} of a Split: texts to their media, and back."""
  both = [(text, split.videos[i])
          for text, i in zip(split.texts, split.text_video)]
  return {
      'text_to_medium': Pairs([
          Pair(text, medium, 'image' if medium.video is None else 'video')
          for text, medium in both], split.left_out),
      'medium_to_text': Pairs([Pair(medium, text, 'text')
                               for text, medium in both])}


def _paths(key, value):
  """The paths of a medium in any of the three forms; () if it is none."""
  if isinstance(value, dict):
    value = value.get(key)
  values = value if isinstance(value, list) else [value]
  fine = all(isinstance(path, str) and path for path in values)
  return tuple(values) if fine else ()


def _is_number(value):
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value))


def save(path, pairs):
  """Writes pairs whose media are paths as a file that PairFile reads."""
  def content(item):
    return {key: getattr(item, key) for key in item.order
            if getattr(item, key) is not None}
  rows = []
  for pair in pairs:
    row = {'query': content(pair.query), 'candidate': content(pair.candidate),
           'target_modal': pair.target_modality}
    if type(pair.negative) is tuple:
      row['negative'] = [content(one) for one in pair.negative]
    elif pair.negative is not None:
      row['negative'] = content(pair.negative)
    row |= {name: value for name in ('scores', 'grade')
            if (value := getattr(pair, name)) is not None}
    rows.append(row)
  pathlib.Path(path).write_text(
      json.dumps(rows, ensure_ascii=False, indent=1), encoding='utf-8')
