"""A folder of one's own: captions.json, and the files that it names.

captions.json is a list of {"video" or "image": file, "caption": text or texts,
"split": 'train', 'validation' or 'test' (in all entries or in none)}; the files
lie beside it or in videos/ or images/. In place of it, tables of media and
captions: parquet, Arrow, JSON or CSV, of a folder, a file or a data set of the
Hugging Face hub; see tabular.
"""
from jaxret.data import entries, hub, sets, sources
from jaxret.data.sets import caption_files, splits
from jaxret.data.tabular import rows as tabular

WANTED = (
    'wanted captions.json, a list of {"video": file, "caption": text}, and the '
    'files beside it or in videos/ or images/')


def load(section, split):
  """The types.Split of what lies at `section.root`.

  section: besides what splits.open_split reads,
    fetch: patterns of files of a hub's data set that are fetched, () = all.
    columns, subsets: of tables, see tabular.rows.
    test_fraction: where entries name no split, the share of the videos in
      test; the others are train (default 1: all are test).
    allow_outside: whether captions.json may name files that are not in root.
  """
  return splits.open_split(
      'folder', lambda split: _read(section, split), section, split,
      f'give entries of captions.json "split": "{split}" or set '
      'data.test_fraction below 1')


def _read(section, split):
  root = getattr(section, 'root', None)
  if root:
    root = hub.local(root, getattr(section, 'fetch', ()))
    if root.is_file():
      return tabular.read(root, section, split)
  root = entries.root_of(root, 'folder', WANTED)
  if not any(root.iterdir()):
    raise ValueError(f'data.root {root} is empty; {WANTED}')
  path = root / 'captions.json'
  if not path.is_file():
    return tabular.read(root, section, split)
  rows = caption_files.rows(
      root, path, getattr(section, 'allow_outside', False))
  if not any(sources.is_file(row.path) for row in rows):
    raise ValueError(
        f'{path}: none of the {len(rows)} files named there lies in {root}, '
        f'{root / "videos"} or {root / "images"}; {WANTED}')
  labels = _labels(path, rows)
  rows = splits.Rows(rows, files=(path,))
  if any(labels):
    return rows.like([row for row, label in zip(rows, labels)
                      if label == split])
  fraction = getattr(section, 'test_fraction', 1.0)
  train, test = ([], rows) if fraction >= 1 else splits.held_out(rows, fraction)
  return rows.like({'train': train, 'validation': [], 'test': test}[split])


def _labels(path, rows):
  """The split that each entry names, or None."""
  labels, of_video = [], {}
  for i, (entry, row) in enumerate(zip(caption_files.read(path), rows)):
    label = entry.get('split')
    if label is not None and label not in sets.SPLITS:
      raise entries.wrong(
          path, i, f"field 'split' {label!r}", f'one of {sets.SPLITS}')
    if of_video.setdefault(row.id, label) != label:
      raise entries.wrong(path, i, f'{row.id!r} in split {label!r}',
                          f'{of_video[row.id]!r} as in its earlier entry')
    if labels and (label is None) != (labels[0] is None):
      raise entries.wrong(path, i, f'split {label!r}',
                          'a split in all entries or in none')
    labels.append(label)
  return labels
