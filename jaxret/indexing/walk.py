"""What there is to index: files of a folder, or what a list of them names.

A link that leads out of the folder, and a name in a list that does, is not
followed unless asked for: whoever opens the index trusts it with files.
"""
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jaxret.data import entries, types

IMAGES = ('.png', '.jpg', '.jpeg', '.jfif', '.gif', '.webp', '.bmp', '.dib',
          '.tif', '.tiff', '.avif', '.heic', '.heif', '.ppm', '.pgm', '.jp2',
          '.tga', '.qoi')
VIDEOS = ('.mp4', '.m4v', '.mov', '.mkv', '.webm', '.avi', '.flv', '.wmv',
          '.asf', '.mpg', '.mpeg', '.mts', '.m2ts', '.ts', '.3gp', '.ogv',
          '.mxf', '.vob', '.y4m')
TEXTS = ('.txt', '.md')
MEDIA = ('video', 'image')
COLUMNS = (*MEDIA, 'path', 'text', 'caption')
LISTS = ('.json', '.jsonl', '.parquet', '.txt', '.lst')


class Found(NamedTuple):
  """One thing to index.

  path: as the index names it: below the root, with '/', or a place in a list.
  file: where it lies, None for a text of a list, which is `text`. size in
  bytes; mtime_ns of the file, or of the list.
  """
  path: str
  file: str | None
  size: int
  mtime_ns: int
  text: str | None = None
  caption: str | None = None


class Skipped(NamedTuple):
  """What is left out. size, mtime_ns: of a file that was tried."""
  path: str
  reason: str
  size: int | None = None
  mtime_ns: int | None = None


class Source(NamedTuple):
  """What a folder or a list holds. root: the folder that paths start from."""
  root: str
  found: list[Found]
  skipped: list[Skipped]


def walk(source: str | os.PathLike | Sequence[Any],
         follow_links: bool = False) -> Source:
  """The Source of a folder, of a file that lists things, or of a list.

  Args:
    source: a folder; a .json or .jsonl file of objects {"image" or "video":
      file, "caption": text or texts} or {"text": text}; a .parquet file of
      such columns, or `path`; a .txt or .lst file of a name on each line; or a
      list of paths. Files are named from the folder where the list lies.
    follow_links: also links that lead out of the root, and names in a list.

  Raises:
    ValueError: for what is none of these, for an entry of a list that cannot
      be used or names a file outside of its folder, and where there is nothing.
  """
  if not isinstance(source, (str, os.PathLike)):
    return _of_paths(list(source))
  path = pathlib.Path(source).expanduser()
  if path.is_dir():
    return _of_folder(path.resolve(), follow_links)
  if not path.is_file():
    raise ValueError(f'{source}: no such folder or file; give a folder, or a '
                     f'list of files ({", ".join(LISTS)})')
  if path.suffix.lower() not in LISTS:
    raise ValueError(f'{source}: got a file that lists no others; give its '
                     f'folder, or a list ({", ".join(LISTS)})')
  return _of_list(path.resolve(), follow_links)


def kind_of_name(path: str) -> str | None:
  """'image', 'video' or 'text' by the ending of a name; None for another."""
  ending = os.path.splitext(path)[1].lower()
  return next((kind for kind, endings in (
      ('image', IMAGES), ('video', VIDEOS), ('text', TEXTS))
               if ending in endings), None)


def outside(file: str, root: str) -> bool:
  """Whether a file, its links followed, lies outside of a root."""
  real, root = os.path.realpath(file), os.path.realpath(root)
  return os.path.commonpath([real, root]) != root


def _of_folder(root, follow_links):
  found, skipped = [], []
  for path, file in _files(str(root), follow_links, skipped):
    if kind_of_name(path) is None:
      ending = os.path.splitext(path)[1] or 'none'
      skipped.append(Skipped(
          path, f'its ending, {ending}, is that of no image, video or text'))
      continue
    _add(found, skipped, path, file, str(root), follow_links)
  return Source(str(root), found, skipped)


def _files(root, follow_links, skipped):
  """Yields (path below the root, file), sorted; nothing that is hidden."""
  seen = set()
  for folder, folders, names in os.walk(
      root, followlinks=follow_links, onerror=lambda error: skipped.append(
          Skipped(os.path.relpath(error.filename, root),
                        f'it cannot be read ({error.strerror})'))):
    real = os.path.realpath(folder)
    if real in seen or os.path.exists(os.path.join(folder, 'index.jaxret')):
      folders[:] = []  # a circle of links, or an index
      continue
    seen.add(real)
    folders[:] = sorted(one for one in folders if not one.startswith('.'))
    for name in [] if follow_links else folders:
      whole = os.path.join(folder, name)
      if os.path.islink(whole):
        skipped.append(Skipped(
            os.path.relpath(whole, root), 'a link to a folder, which is not '
            'followed: --follow_links does'))
    for name in sorted(names):
      if not name.startswith('.'):
        file = os.path.join(folder, name)
        yield os.path.relpath(file, root).replace(os.sep, '/'), file


def _add(found, skipped, path, file, root, follow_links, **fields):
  """Appends a Found to `found`, or what it is left out for to `skipped`."""
  reason = None
  try:
    if types.is_broken(path):
      reason = 'its name is no text in UTF-8: rename it'
    elif not follow_links and outside(file, root):
      reason = ('a link out of the folder, which is not followed: '
                '--follow_links does')
    elif not os.path.isfile(file):
      reason = ('no such file' if not os.path.exists(file)
                else 'not a file')
    else:
      state = os.stat(file)
      found.append(Found(path, file, state.st_size, state.st_mtime_ns,
                         **fields))
  except OSError as error:
    reason = f'it cannot be read ({error.strerror})'
  if reason:
    skipped.append(Skipped(path, reason))


def _of_paths(paths):
  """Of a list in Python: who gives it means these files, wherever they are."""
  found, skipped = [], []
  for number, path in enumerate(paths):
    if not isinstance(path, (str, os.PathLike)):
      raise ValueError(f'entry {number}: got a {type(path).__name__}, want '
                       'a path')
    file = os.path.abspath(os.path.expanduser(os.fspath(path)))
    _add(found, skipped, file.replace(os.sep, '/'), file, os.sep, True)
  return Source(os.sep, _without_doubles(found), skipped)


def _of_list(path, follow_links):
  root, found, skipped = str(path.parent), [], []
  state = path.stat()
  for number, entry in _entries(path):
    name, caption = _checked(path, number, entry)
    if name is None:
      text = entry['text']
      found.append(Found(f'{path.name}:{number + 1}', None, len(text),
                         state.st_mtime_ns, text, caption))
      continue
    if not follow_links and not entries.is_inside(name):
      raise entries.wrong(path, number, f'{name!r:.80}, which is not in its '
                          'folder', 'a file below it; or say --follow_links')
    file = entries.find(root, name, ('', 'videos', 'images'), True)
    shown = os.path.relpath(file, root) if entries.is_inside(name) else (
        os.path.abspath(file))
    _add(found, skipped, shown.replace(os.sep, '/'), file, root, follow_links,
         caption=caption)
  return Source(root, _without_doubles(found), skipped)


def _entries(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (number from 0, entry) of a list on disk."""
  ending = path.suffix.lower()
  if ending == '.json':
    yield from enumerate(entries.listed(path, entries.read_json(path)))
  elif ending == '.jsonl':
    for line, entry in entries.json_lines(path):
      yield line - 1, entry
  elif ending == '.parquet':
    for number, row in enumerate(entries.read_parquet(path, (), COLUMNS)):
      yield number, {key: value for key, value in row.items()
                     if value is not None}
  else:
    for line, name in entries.lines(path):
      if name.strip():
        yield line - 1, {'path': name}


def _checked(path, number, entry):
  """(the name of its file or None, its captions on a line each or None)."""
  named = [key for key in (*MEDIA, 'path', 'text') if key in entry]
  if len(named) != 1:
    raise entries.wrong(path, number, f'fields {", ".join(entry) or "none"}',
                        'one of image, video, path and text')
  entries.field(path, number, entry, named[0])
  captions = entry.get('caption')
  if isinstance(captions, str) or captions is None:
    captions = [captions or '']
  if not isinstance(captions, list) or not all(
      isinstance(one, str) and not types.is_broken(one) for one in captions):
    raise entries.wrong(path, number, f'the caption {captions!r:.60}',
                        'a text, or a list of texts')
  caption = '\n'.join(filter(None, map(str.strip, captions))) or None
  return (None if named[0] == 'text' else entry[named[0]]), caption


def _without_doubles(found):
  """Each path once; several captions of a file are lines of one."""
  kept: dict[str, Found] = {}
  for one in found:
    before = kept.get(one.path)
    if before is None:
      kept[one.path] = one
    elif one.caption and one.caption not in (before.caption or '').split('\n'):
      kept[one.path] = before._replace(caption='\n'.join(
          filter(None, (before.caption, one.caption))))
  return list(kept.values())
