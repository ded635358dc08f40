"""Frame features in the BigFile format, read by memory map.

A directory holds shape.txt ('N D'), id.txt (N names of vectors, separated by
white space) and feature.bin (float32, row by row); video2frames.txt beside
them is the text of a Python dict, video id -> names of its frames.
"""
import ast
import pathlib

import numpy as np

_WANTED = ('wanted shape.txt, id.txt, feature.bin and video2frames.txt of one '
           'feature set')


class BigFile:
  """Named float32 vectors, `[name]` -> [D]; `width` is D.

  Errors: ValueError naming the file and line that does not fit the others.
  """

  def __init__(self, directory):
    self.directory = pathlib.Path(directory).expanduser()
    shape_path = self.directory / 'shape.txt'
    n_rows, self.width = _shape(shape_path)
    id_path = self.directory / 'id.txt'
    # Names of published sets are not all UTF-8.
    names = _read(id_path, 'ISO-8859-1').split()
    if len(names) != n_rows:
      raise ValueError(
          f'{id_path}: got {len(names)} names, {shape_path}, line 1, says '
          f'{n_rows}: the files belong to different feature sets')
    self._rows = {name: row for row, name in enumerate(names)}
    if len(self._rows) != n_rows:
      repeated = next(name for row, name in enumerate(names)
                      if self._rows[name] != row)
      raise ValueError(f'{id_path}: got the name {repeated!r} twice; each '
                       'vector needs a name of its own')
    path = self.directory / 'feature.bin'
    if not path.is_file():
      raise ValueError(f'{path}: no such file; {_WANTED}')
    size, wanted = path.stat().st_size, 4 * n_rows * self.width
    if size != wanted:
      raise ValueError(
          f'{path}: got {size} bytes, {shape_path}, line 1, says {n_rows} x '
          f'{self.width} float32, {wanted} bytes: copy the file again')
    self._vectors = np.memmap(
        path, np.float32, 'r', shape=(n_rows, self.width))

  def __contains__(self, name):
    return name in self._rows

  def __getitem__(self, name):
    return self._vectors[self._rows[name]]

  def stack(self, names):
    """float32 [len(names), D], in their order."""
    return np.asarray(self._vectors[[self._rows[name] for name in names]])


class FrameFeatures:
  """Frame features of videos, [i] -> float32 [F, D] (Visuals).

  videos: Items; max_frames: frames after that are left out, 0 = all (NRCCR
  takes 64, LECCR all). `longest` is the largest F.
  Errors: ValueError naming the line of video2frames.txt or the id.
  """

  def __init__(self, bigfile, video2frames, videos, max_frames=0):
    self._bigfile = bigfile
    self._names = []
    for video in videos:
      names = video2frames.get(video.id)
      if not names:
        raise ValueError(
            f'{bigfile.directory / "video2frames.txt"} has no frames of '
            f'{video.id!r}; leave the video out or extract its features')
      lacking = [name for name in names if name not in bigfile]
      if lacking:
        raise ValueError(
            f'{bigfile.directory / "id.txt"} has no {lacking[0]!r}, which '
            f'video2frames.txt names as a frame of {video.id!r}: the files '
            'belong to different feature sets')
      self._names.append(names[:max_frames] if max_frames else names)
    self.longest = max(map(len, self._names))
    self.width = bigfile.width

  def __len__(self):
    return len(self._names)

  def __getitem__(self, index):
    return self._bigfile.stack(self._names[index])


def read_video2frames(path):
  """{video id: [names of its frames]} from the text of a Python dict.

  The text is parsed, never run: it may hold strings, lists and one dict.
  Errors: ValueError with the line where it is something else.
  """
  path = pathlib.Path(path).expanduser()
  try:
    found = ast.literal_eval(_read(path, 'utf-8').strip())
  except SyntaxError as error:
    raise ValueError(
        f'{path}, line {error.lineno}: not the text of a Python dict '
        f'({error.msg}); wanted {{video id: [names of frames]}}') from None
  except ValueError as error:
    line = getattr(error, 'lineno', None) or 1
    raise ValueError(
        f'{path}, line {line}: got an expression, wanted {{video id: [names of '
        'frames]} of strings alone') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path}, line 1: got {type(found).__name__}, wanted '
                     '{video id: [names of frames]}')
  for video, names in found.items():
    if not isinstance(video, str) or not isinstance(names, list | tuple) or (
        not all(isinstance(name, str) for name in names)):
      raise ValueError(f'{path}: the frames of {video!r} are no list of '
                       'strings; wanted {video id: [names of frames]}')
  return {video: list(names) for video, names in found.items()}


def open_frames(directory, videos, id_lines=None, max_frames=0):
  """FrameFeatures of a directory with all four files.

  id_lines: {video id: 'file, line n'} of the list that names the videos; one
  without features is then refused with that line.
  """
  directory = pathlib.Path(directory).expanduser()
  if not directory.is_dir():
    raise ValueError(f'{directory} is no directory; {_WANTED}')
  frames = read_video2frames(directory / 'video2frames.txt')
  for video in videos:
    if id_lines and video.id in id_lines and not frames.get(video.id):
      raise ValueError(
          f'{id_lines[video.id]}: {video.id!r} has no features in {directory}; '
          'remove it from the list or extract its features')
  return FrameFeatures(BigFile(directory), frames, videos, max_frames)


def _shape(path):
  lines = _read(path, 'utf-8').split('\n')
  fields = lines[0].split()
  if len(fields) != 2 or not all(field.isdigit() for field in fields):
    raise ValueError(f'{path}, line 1: got {lines[0]!r}, wanted two numbers: '
                     'vectors and their width')
  return tuple(map(int, fields))


def _read(path, encoding):
  if not path.is_file():
    raise ValueError(f'{path}: no such file; {_WANTED}')
  try:
    return path.read_text(encoding=encoding)
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not a text in {encoding} ({error.reason})'
                     ) from None
