"""What a vision tower gives of media, kept in memory and on disk.

A medium is found again by its content, whatever it is called and wherever it
lies: a file that was changed is seen anew.
"""
import collections
import hashlib
import json
import pathlib
import zipfile
import zlib

import numpy as np
from absl import logging

from jaxret import files
from jaxret.data import clips, images, sources


def content_key(name, kind, source):
  """32 hex digits that stand for a medium's content and its kind.

  Raises MediaError naming the item where there is no such file.
  """
  digest = hashlib.sha256(kind.encode())
  def add(part):
    if isinstance(part, (tuple, list)):
      digest.update(f'({len(part)}'.encode())
      for element in part:
        add(element)
    elif isinstance(part, clips.Clip):
      digest.update(f'from {part.start_s} to {part.end_s}'.encode())
      add(part.source)
    elif isinstance(part, np.ndarray) or images.is_pil(part):
      if not isinstance(part, np.ndarray):
        digest.update(f'{part.mode}'.encode())
        part = np.stack([images.of_pil(part, 'a PIL image', alpha)
                         for alpha in images.ALPHA])
      digest.update(f'{part.shape}{part.dtype}'.encode())
      digest.update(np.ascontiguousarray(part).data)
    else:
      digest.update(b'encoded')
      digest.update(_sha256(sources.checked(part, kind)))
  try:
    add(source)
  except (OSError, ValueError) as error:
    reason = getattr(error, 'reason', None) or sources.cause(error)
    raise sources.MediaError(
        name, f'its {kind} cannot be read: {reason}') from error
  return digest.hexdigest()[:32]


def _sha256(source):
  """Of encoded bytes, or of the file at a path."""
  if isinstance(source, bytes):
    return hashlib.sha256(source).digest()
  with open(source, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').digest()


class Memory:
  """{key: [N, W]} of what was last used, at most max_bytes of it.

  What was put last stays, however large it is.
  """

  def __init__(self, max_bytes):
    self.max_bytes, self._bytes = max_bytes, 0
    self._kept = collections.OrderedDict()

  def __contains__(self, key):
    return key in self._kept

  def get(self, key):
    """The features of a key, None where they are not kept."""
    if key in self._kept:
      self._kept.move_to_end(key)
    return self._kept.get(key)

  def put(self, key, features):
    if key in self._kept:
      return
    self._kept[key] = features
    self._bytes += features.nbytes
    while self._bytes > self.max_bytes and len(self._kept) > 1:
      self._bytes -= self._kept.popitem(last=False)[1].nbytes


class Directory:
  """Features on disk, a file for each medium, whole or not there.

  fingerprint: flat dict of what features depend on besides the medium:
    weights, resolution, dtype. Each has its own folder, so that several models
    share a directory and nothing stale is read.
  dtype: np.dtype of the features.
  Errors: ValueError where no directory can be made.
  """

  def __init__(self, directory, fingerprint, dtype):
    text = json.dumps(fingerprint, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    self.directory = pathlib.Path(directory).expanduser() / name
    self._dtype = np.dtype(dtype)
    # As integers of the same size: files of NumPy know no bfloat16.
    self._stored = np.dtype(f'u{self._dtype.itemsize}')
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise ValueError(f'features: {directory} cannot be a directory '
                       f'({error.strerror}): name another') from error
    files.write_atomically(self.directory / 'fingerprint.json', text)

  def get(self, key, shape):
    """The features of a key, None where there are none of this shape [N, W].

    A damaged file is said and counts as none. For one thread at a time, since
    NumPy parses headers as Python.
    """
    path = self._path(key)
    try:
      with np.load(path) as stored:  # zip has a checksum of its own
        found = stored['features']
      if found.shape != shape or found.dtype != self._stored:
        raise ValueError(f'{found.dtype} {found.shape}, want {self._stored} '
                         f'{shape}')
    except FileNotFoundError:
      return None
    except (OSError, ValueError, KeyError, EOFError, zlib.error,
            zipfile.BadZipFile) as error:
      logging.warning('%s is damaged (%s): its medium is seen anew', path,
                      error)
      return None
    return found.view(self._dtype)

  def put(self, key, features):
    path = self._path(key)
    features = np.ascontiguousarray(features).view(self._stored)
    with files.replacing(path, durable=False) as partial:
      with partial.open('wb') as file:
        np.savez(file, features=features)

  def _path(self, key):
    return self.directory / key[:2] / f'{key}.npz'
