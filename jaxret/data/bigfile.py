"""Frame features in the BigFile format, read by memory map.

A directory holds shape.txt ('N D'), id.txt (N names of vectors, separated by
white space) and feature.bin (float32, row by row); video2frames.txt beside
them is the text of a Python dict, video id -> names of its frames. Names of
published sets are in UTF-8 or in ISO-8859-1: what is no UTF-8 is the latter.
"""
import ast
import codecs
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
    # Of bytes: of a string, parts of characters would count as white space.
    names = [_decoded(name) for name in _read(id_path).split()]
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
    n_bytes, expected_bytes = path.stat().st_size, 4 * n_rows * self.width
    if n_bytes != expected_bytes:
      raise ValueError(
          f'{path}: got {n_bytes} bytes, {shape_path}, line 1, says {n_rows} x '
          f'{self.width} float32, {expected_bytes} bytes: copy the file again')
    self._vectors = np.memmap(
        path, np.float32, 'r', shape=(n_rows, self.width))

  def __contains__(self, name):
    return name in self._rows

  def __getitem__(self, name):
    return self._vectors[self._rows[name]]

  def stack(self, names):
    """float32 [len(names), D], in their order."""
    return np.asarray(self._vectors[[self._rows[name] for name in names]])


class FeatureSet:
  """The frame features in a directory with all four files, read once.

  Errors: ValueError for a file that is missing or does not fit the others.
  """

  def __init__(self, directory):
    self.directory = pathlib.Path(directory).expanduser()
    if not self.directory.is_dir():
      raise ValueError(f'{self.directory} is no directory; {_WANTED}')
    self._video2frames = read_video2frames(
        self.directory / 'video2frames.txt')
    self._vectors = BigFile(self.directory)

  def frames_of(self, videos, id_lines=None, max_frames=0):
    """FrameFeatures of Items.

    id_lines: {video id: 'file, line n'} of the list that names the videos; one
    without features is then refused with that line. max_frames: frames after
    that are left out, 0 = all (NRCCR takes 64, LECCR all).
    """
    lines = id_lines or {}
    return FrameFeatures(self._vectors, [
        self._frame_names(video.id, lines.get(video.id))[:max_frames or None]
        for video in videos])

  def _frame_names(self, video, line):
    """[names of vectors] of a video id, all of them there."""
    names = self._video2frames.get(video)
    if not names and line:
      raise ValueError(
          f'{line}: {video!r} has no features in {self.directory}; remove it '
          'from the list or extract its features')
    if not names:
      raise ValueError(
          f'{self.directory / "video2frames.txt"} has no frames of {video!r}; '
          'leave the video out or extract its features')
    lacking = [name for name in names if name not in self._vectors]
    if lacking:
      raise ValueError(
          f'{self.directory / "id.txt"} has no {lacking[0]!r}, which '
          f'video2frames.txt names as a frame of {video!r}: the files belong '
          'to different feature sets')
    return names


class FrameFeatures:
  """Frame features of videos, [i] -> float32 [F, D] (Visuals).

  vectors: BigFile. names: of each video, those of its frames' vectors.
  `longest` is the largest F; `width` is D.
  """

  def __init__(self, vectors, names):
    self._vectors, self._names = vectors, names
    self.longest = max(map(len, names))
    self.width = vectors.width

  def __len__(self):
    return len(self._names)

  def __getitem__(self, index):
    return self._vectors.stack(self._names[index])


def read_video2frames(path):
  """{video id: [names of its frames]} from the text of a Python dict.

  The text is parsed, never run: it may hold strings, lists and one dict.
  Errors: ValueError with the line where it is something else.
  """
  path = pathlib.Path(path).expanduser()
  try:
    frames = ast.literal_eval(_decoded(_read(path)).strip())
  except SyntaxError as error:
    raise ValueError(
        f'{path}, line {error.lineno}: not the text of a Python dict '
        f'({error.msg}); wanted {{video id: [names of frames]}}') from None
  except (ValueError, TypeError, RecursionError, MemoryError) as error:
    line = getattr(error, 'lineno', None) or 1
    raise ValueError(
        f'{path}, line {line}: got an expression, wanted {{video id: [names of '
        'frames]} of strings alone') from None
  if not isinstance(frames, dict):
    raise ValueError(f'{path}, line 1: got {type(frames).__name__}, wanted '
                     '{video id: [names of frames]}')
  for video, names in frames.items():
    if not isinstance(video, str) or not isinstance(names, list | tuple) or (
        not all(isinstance(name, str) for name in names)):
      raise ValueError(f'{path}: the frames of {video!r} are no list of '
                       'strings; wanted {video id: [names of frames]}')
  return {video: list(names) for video, names in frames.items()}


def _shape(path):
  lines = _decoded(_read(path)).split('\n')
  fields = lines[0].split()
  if len(fields) != 2 or not all(map(str.isdecimal, fields)):
    raise ValueError(f'{path}, line 1: got {lines[0]!r}, wanted two numbers: '
                     'vectors and their width')
  return tuple(map(int, fields))


def _read(path):
  """The bytes of a file, less a byte order mark."""
  if not path.is_file():
    raise ValueError(f'{path}: no such file; {_WANTED}')
  return path.read_bytes().removeprefix(codecs.BOM_UTF8)


def _decoded(data):
  try:
    return data.decode()
  except UnicodeDecodeError:
    return data.decode('ISO-8859-1')
