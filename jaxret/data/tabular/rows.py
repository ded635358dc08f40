"""From tables of media and captions to the rows of a split.

Rows of one medium are joined: those of one id, which the config's column says
or the name of its file; without either, those of one content. What a row lacks
leaves it out; rows are counted from 0.
"""
import hashlib
import os
import re
from typing import NamedTuple

from jaxret.data import entries, sources, types
from jaxret.data.sets import splits
from jaxret.data.tabular import columns, found, parts, recipes, tables

WANTED = (
    'wanted captions.json, or a table of media and captions: parquet, what '
    "datasets' save_to_disk wrote, JSON or CSV")
NO_COLUMNS = dict.fromkeys(columns.FIELDS, '')


class _Labelled(NamedTuple):
  """A splits.Row and the split that its table names for it, '' = none."""
  row: splits.Row
  label: str


def read(root, section, split):
  """The splits.Rows of one split of what lies at a root.

  section: `columns`, `subsets`, `splits` and `test_fraction` are read, and
  what recipes knows where these are empty. A split that is not there has no
  rows. Where no split is named all rows are test; where none
  is test and test_fraction is below 1, that share is held out of the others.
  """
  fields = _fields(root, section)
  chosen = _chosen(root, fields)
  if name := fields['splits'].get(split):
    return _rows(_labelled(root, _called(root, chosen, name), fields))
  labels = {parts.split_of(part.split) for part in chosen}
  if len(labels) > 1:  # files beside those that say a split
    labels.discard('')
  one = None
  if len(labels) == 1:
    one = _labelled(root, chosen, fields)
    by_row = {found.label for found in one}
    if len(by_row) > 1:  # a column says it, whatever the files are called
      return _rows(one, lambda found: found.label == split)

  def of(label):
    return _rows(one if one is not None else _labelled(
        root, _of_split(root, chosen, label), fields))

  fraction = getattr(section, 'test_fraction', 1.0)
  if split in labels and ('test' in labels or split == 'validation'
                          or fraction >= 1):
    return of(split)
  if 'test' in labels or labels != {''} and fraction >= 1:
    return splits.Rows()
  whole = of('' if '' in labels else 'train')
  train, test = ([], whole) if fraction >= 1 else splits.held_out(
      whole, fraction)
  return whole.like({'train': train, 'test': test}.get(split, []))


def paragraphs(rows):
  """The same splits.Rows, the captions of each joined to one."""
  return rows.like([row._replace(captions=(' '.join(row.captions),))
                    for row in rows])


def _fields(root, section):
  """{'subsets', 'splits', 'columns'} of the config, or of a recipe."""
  known, made = recipes.of(root), {}
  made['subsets'] = tuple(getattr(section, 'subsets', ())) or known.get(
      'subsets', ())
  for name, empty in (('splits', {}), ('columns', NO_COLUMNS)):
    given = {key: value for key, value in getattr(section, name, {}).items()
             if value}
    made[name] = {**empty, **known.get(name, {}), **given}
  return made


def _chosen(root, fields):
  """[parts.Part] of the subsets that the config names, () = all."""
  there = parts.parts(root)
  if not there:
    packed = found.packed(root) if root.is_dir() else ()
    hint = f'; of {packed[0]} only media are read' if packed else ''
    raise ValueError(f'data.root {root} has no captions.json; {WANTED}{hint}')
  wanted = fields['subsets']
  names = list(dict.fromkeys(part.subset for part in there))
  for name in wanted:
    if name not in names:
      raise ValueError(f'data.subsets names {name!r}; {root} has '
                       f'{", ".join(map(repr, names))}')
  return [part for part in there if not wanted or part.subset in wanted]


def _called(root, chosen, name):
  """The parts of the split of that name, which must be of one subset."""
  named = [part for part in chosen if part.split == name]
  if not named:
    there = ', '.join(repr(part.split) for part in chosen)
    raise ValueError(f'data.splits names {name!r}; {root} has {there}')
  return _of_one_subset(root, named, name)


def _of_split(root, chosen, label):
  """The parts whose split's name has a word for `label`, of one such name."""
  of_label = [part for part in chosen if parts.split_of(part.split) == label]
  exact = [part for part in of_label if part.split == label] or of_label
  names = list(dict.fromkeys(part.split for part in exact))
  if len(names) > 1:
    raise ValueError(f'{root} has the splits {", ".join(map(repr, names))}; '
                     f'choose by data.splits.{label}, as {names[0]!r}')
  return _of_one_subset(root, exact, label)


def _of_one_subset(root, named, name):
  subsets = list(dict.fromkeys(part.subset for part in named))
  if len(subsets) > 1:
    raise ValueError(f'{root} has the split {name or "without a name"!r} in '
                     f'the subsets {", ".join(map(repr, subsets))}; choose by '
                     f"data.subsets, as ('{subsets[0]}',)")
  return named


def _labelled(root, chosen, fields):
  """Rows of [_Labelled] of all tables of some parts."""
  names = found.Names(root if root.is_dir() else root.parent)
  files = list(dict.fromkeys(
      file for part in chosen for file in part.files))
  made, left_out, known = [], [], {}
  for file in files:
    used, unused = _of_table(
        tables.opened(file), fields['columns'], names, known)
    made += used
    left_out += unused
  if left_out and not made:
    raise ValueError(left_out[0].reason)
  return splits.Rows(made, left_out, files)


def _of_table(table, given, names, known):
  """([_Labelled], [LeftOut]) of one table; known: {id: path}, which grows."""
  chosen = columns.chosen(table, given)
  packed = table.kinds[chosen.medium] in ('medium', 'media')
  media = (table.media if packed else table.values)(chosen.medium)
  captions = table.values(chosen.caption)
  ids, labels = (table.values(name) if name else [None] * len(table)
                 for name in (chosen.id, chosen.split))
  made, left_out = [], []
  for i in range(len(table)):
    try:
      path, name = place(table, i, chosen.medium, media[i], names)
      texts = _texts(table, i, chosen.caption, captions[i])
      if chosen.id:
        name = _id(table, i, chosen.id, ids[i])
      name, path = _joined(table, i, chosen.medium, name, path, known)
    except ValueError as error:
      left_out.append(types.LeftOut(f'{table.path.name}:{i}', str(error)))
      continue
    made.append(_Labelled(splits.Row(name, chosen.modality, path, texts),
                          parts.split_of(str(labels[i] or ''))))
  return made, left_out


def place(table, i, column, cell, names):
  """(path, name) of a cell: a path or a tuple of such; name: None = has none.
  """
  if not cell:
    raise _wrong(table, i, column, 'an empty cell', 'a medium')
  if isinstance(cell, list):  # of frames
    frames = [_one(table, i, column, one, names, k)
              for k, one in enumerate(cell)]
    return tuple(path for path, _ in frames), None
  return _one(table, i, column, cell, names)


def _one(table, i, column, cell, names, entry=None):
  if isinstance(cell, tables.Medium):
    if cell.has_bytes:
      # Of a machine that wrote it: no path here.
      name = cell.name and (cell.name if entries.is_inside(cell.name) else
                            cell.name.rpartition('/')[2])
      return table.cell(i, column, entry), name or None
    cell = cell.name
  if not isinstance(cell, str) or not cell.strip():
    raise _wrong(table, i, column, 'an empty cell', 'a medium')
  try:
    path = names.find(cell, table.path)
    return (_frames(path) if os.path.isdir(path) else path), cell
  except ValueError as error:
    raise ValueError(f'{table.where(i, column)}: got {error}') from None


def _frames(folder):
  """The stills in a folder that is a video, 2.jpg before 10.jpg."""
  found = [name for name in os.listdir(folder)
           if name.lower().endswith(columns.IMAGES)]
  if not found:
    raise ValueError(f'the folder {folder} without images, wanted a file, or '
                     'a folder of frames')
  return tuple(os.path.join(folder, name) for name in sorted(
      found, key=lambda name: [
          (not part.isdigit(), int(part) if part.isdigit() else part)
          for part in re.split(r'(\d+)', name) if part]))


def _texts(table, i, column, captions):
  listed = captions if isinstance(captions, list) else [captions]
  for one in listed or [listed]:
    if not isinstance(one, str) or not one.strip() or types.is_broken(one):
      raise _wrong(table, i, column, f'the caption {one!r:.60}', 'a text')
  return tuple(one.strip() for one in listed)


def _id(table, i, column, value):
  if not isinstance(value, (str, int)) or isinstance(value, bool) or value == (
      '') or types.is_broken(str(value)):
    raise _wrong(table, i, column, f'the id {value!r:.60}',
                 'a text or a number')
  return str(value)


def _joined(table, i, column, name, path, known):
  """(id, path) of a medium; of one that came before its first path."""
  if name is None:
    name = _digest(path)[:32]
    return name, known.setdefault(name, path)
  first = known.setdefault(name, path)
  if first != path and _digest(first) != _digest(path):
    raise _wrong(table, i, column, f'another medium of the id {name!r}, which '
                 f'{_said(first)} has', 'an id for each: say which column has '
                 'them by data.columns.id')
  return name, first


def _said(path):
  return path[0] if isinstance(path, tuple) else path


def _digest(path):
  """Of the content of a medium, of all frames of one in stills."""
  whole = hashlib.sha256()
  for one in path if isinstance(path, tuple) else (path,):
    source = sources.checked(one, 'medium')
    if not isinstance(source, bytes):
      with open(source, 'rb') as file:
        source = hashlib.file_digest(file, 'sha256').digest()
    whole.update(hashlib.sha256(source).digest())
  return whole.hexdigest()


def _rows(labelled, keep=None):
  """The splits.Rows of what `keep` chooses, default all."""
  return labelled.like([one.row for one in labelled
                        if keep is None or keep(one)])


def _wrong(table, i, column, got, wanted):
  return ValueError(f'{table.where(i, column)}: got {got}, wanted {wanted}')
