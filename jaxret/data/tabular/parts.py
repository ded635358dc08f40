"""Which tables a folder holds, of which subset and of which split.

As the library `datasets` finds them: what the head of README.md lists under
`configs`; what its save_to_disk wrote; else the words train, validation and
test (and their like) in names of files and folders.
"""
import pathlib
import re
from typing import NamedTuple

from jaxret import foreign_files
from jaxret.data import entries

# The first kind that a folder has is what it consists of.
KINDS = ('.parquet',), ('.arrow',), ('.jsonl', '.ndjson'), ('.json',), (
    '.csv', '.tsv')
ENDINGS = tuple(ending for kind in KINDS for ending in kind)
SPLITS = {
    'train': ('train', 'training', 'restval'),
    'validation': ('validation', 'valid', 'val', 'dev'),
    'test': ('test', 'testing', 'eval', 'evaluation')}
# JSON that says something of a data set and is none.
_ABOUT = ('dataset_infos.json', 'dataset_info.json', 'dataset_dict.json',
          'state.json')
_WORD = re.compile(r'[a-z]+')


class Part(NamedTuple):
  """The files of a subset and a split, '' = none is named."""
  subset: str
  split: str
  files: tuple[pathlib.Path, ...]


def parts(root):
  """[Part] of a folder or of a single file, in order; [] where there is none.

  Errors: ValueError for a README.md or a save_to_disk folder whose own list
  does not fit what is there.
  """
  if root.is_file():
    return [Part('', '', (root,))] if root.suffix.lower() in ENDINGS else []
  for found in (_saved(root), _listed(root)):
    if found:
      return found
  return _named(root)


def split_of(name):
  """Which split a name says it is of, '' = of none."""
  words = _WORD.findall(name.lower())
  return next((split for split, known in SPLITS.items()
               if any(word in words for word in known)), '')


def _saved(root):
  """What datasets' save_to_disk wrote: one folder, or one for each split."""
  if (root / 'dataset_dict.json').is_file():
    path = root / 'dataset_dict.json'
    names = foreign_files.read_object(path).get('splits')
    if not isinstance(names, list) or not all(
        isinstance(name, str) and '/' not in name and entries.is_inside(name)
        for name in names):
      raise ValueError(f'{path}: got no list of splits, wanted {{"splits": '
                       '["train", ...]}')
    return [Part('', name, _shards(root / name)) for name in names]
  if not (root / 'state.json').is_file():
    return []
  name = foreign_files.read_object(root / 'state.json').get('_split')
  return [Part('', name if isinstance(name, str) else '', _shards(root))]


def _shards(folder):
  path = folder / 'state.json'
  found = foreign_files.read_object(path).get('_data_files')
  names = [one.get('filename') for one in found if isinstance(one, dict)] if (
      isinstance(found, list)) else []
  if not names or not all(isinstance(name, str) and '/' not in name
                          and entries.is_inside(name) for name in names):
    raise ValueError(f'{path}: got no list of files, wanted "_data_files" as '
                     'save_to_disk of datasets writes it')
  return tuple(entries.present(folder, name, 'which its state.json lists')
               for name in names)


def _listed(root):
  """What `configs` of a README.md lists, [] where it lists nothing."""
  readme = root / 'README.md'
  if not readme.is_file():
    return []
  import huggingface_hub  # slow to import
  try:
    head = huggingface_hub.metadata_load(readme) or {}
  except Exception as error:  # YAML has many ways to be none
    raise ValueError(f'{readme}: its head is not YAML '
                     f'({" ".join(str(error).split())[:200]})') from None
  found = []
  configs = head.get('configs') if isinstance(head, dict) else None
  for config in configs if isinstance(configs, list) else ():
    if isinstance(config, dict) and 'data_files' in config:
      folder = root / _inside(readme, str(config.get('data_dir') or '.'))
      found += _of_config(readme, folder, config)
  return [part for part in found if part.files]


def _of_config(readme, folder, config):
  subset = str(config.get('config_name') or '')
  given = config['data_files']
  given = given if isinstance(given, list) else [given]
  of_split = {}
  for one in given:
    split, paths = (one.get('split'), one.get('path')) if (
        isinstance(one, dict)) else ('', one)
    for pattern in paths if isinstance(paths, list) else [paths]:
      of_split.setdefault(str(split or ''), []).extend(
          _matches(folder, _inside(readme, pattern)))
  return [Part(subset, split, tuple(dict.fromkeys(files)))
          for split, files in of_split.items()]


def _inside(readme, pattern):
  if not isinstance(pattern, str) or not pattern or (
      not entries.is_inside(pattern)):
    raise ValueError(f'{readme}: configs name {pattern!r}; wanted a file below '
                     'the folder of it')
  return pattern


def _matches(folder, pattern):
  return sorted(path for path in folder.glob(pattern)
                if path.suffix.lower() in ENDINGS and path.is_file())


def _named(root):
  """By words in their names; subfolders that say no split are subsets."""
  paths = [path for path in sorted(root.rglob('*'))
           if path.suffix.lower() in ENDINGS and path.name not in _ABOUT
           and not any(part.startswith('.')
                       for part in path.relative_to(root).parts)
           and path.is_file()]
  kinds = {path.suffix.lower() for path in paths}
  kind = next((kind for kind in KINDS if kinds & set(kind)), ())
  found = {}
  for path in paths:
    if path.suffix.lower() in kind:
      folders = path.relative_to(root).parent.parts
      split = next(filter(None, map(split_of, (path.stem, *folders[::-1]))), '')
      subset = '/'.join(name for name in folders
                        if not split_of(name) and name != 'data')
      found.setdefault((subset, split), []).append(path)
  return [Part(*key, tuple(files)) for key, files in found.items()]
