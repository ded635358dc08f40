"""What jaxret itself wrote, read again: whole, or refused in one line.

A file that was copied in part, cut by a full disk or hit by a flipped bit is
named, with the way out; half a line at the end of a JSONL file is what a killed
process was writing, and is dropped.
"""
import json
import os
import pathlib
import zlib
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import ArrayLike, DTypeLike

REMOVE = 'remove it, and it is made again'


def read_object(path: str | os.PathLike, remedy: str = REMOVE
                ) -> dict[str, Any]:
  """The JSON object in a file; ValueError naming the file where it is none.

  remedy: what the reader of the message can do.
  """
  return object_of(pathlib.Path(path).read_bytes(), path, remedy)


def object_of(data: bytes, name: str | os.PathLike, remedy: str = REMOVE
              ) -> dict[str, Any]:
  """The same of bytes that were read; name: where they lie."""
  try:
    found = json.loads(data)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{name} is damaged: not JSON ({error}); {remedy}'
                     ) from error
  if not isinstance(found, dict):
    raise ValueError(f'{name} is damaged: got a JSON {type(found).__name__}, '
                     f'want an object; {remedy}')
  return found


def read_lines(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The objects in a JSONL file, none where there is no file.

  A last line that is no whole object is dropped with a warning. Raises
  ValueError naming file and line for another one.
  """
  path = pathlib.Path(path)
  return lines_of(path.read_bytes(), path) if path.exists() else []


def lines_of(data: bytes, name: str | os.PathLike) -> list[dict[str, Any]]:
  """The same of bytes that were read; name: where they lie."""
  found: list[dict[str, Any]] = []
  lines = data.split(b'\n')
  while lines and not lines[-1]:
    lines.pop()
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      if not isinstance(record, dict):
        raise ValueError(f'a JSON {type(record).__name__}')
      found.append(record)
    except (ValueError, RecursionError) as error:
      if number == len(lines):
        logging.warning('%s: the last line is unfinished and is left out', name)
        break
      raise ValueError(f'{name}, line {number} is damaged: no JSON object '
                       f'({error}); remove that line') from error
  return found


def read_array(path: str | os.PathLike, dtype: DTypeLike,
               shape: tuple[int | None, ...], remedy: str = REMOVE,
               mode: str | None = None) -> np.ndarray:
  """The array in an .npy file, whose size, dtype and shape are checked first.

  Args:
    dtype: the only one that will do.
    shape: None stands for any size of an axis.
    mode: 'r' or 'r+' for a memory map. NumPy lengthens a short file with
      zeros where it may write; here it is refused.

  Raises:
    ValueError: naming the file, for anything else.
  """
  path = pathlib.Path(path)
  try:
    with path.open('rb') as file:
      version = np.lib.format.read_magic(file)
      read = {(1, 0): np.lib.format.read_array_header_1_0,
              (2, 0): np.lib.format.read_array_header_2_0}[version]
      got, _, found = read(file)
      start = file.tell()
  except FileNotFoundError:
    raise
  except Exception as error:  # NumPy parses the header as Python
    raise ValueError(f'{path} is damaged: no array ({error}); {remedy}'
                     ) from error
  dtype = np.dtype(dtype)
  fits = len(got) == len(shape) and all(
      want in (None, have) for have, want in zip(got, shape))
  if not fits or found != dtype:
    wanted = tuple('any' if n is None else n for n in shape)
    raise ValueError(f'{path} is damaged: got {found} {got}, want {dtype} '
                     f'{wanted}; {remedy}')
  size = start + dtype.itemsize * int(np.prod(got, dtype=np.int64))
  if path.stat().st_size != size:
    raise ValueError(f'{path} is damaged: {path.stat().st_size} bytes, want '
                     f'{size}; {remedy}')
  return np.load(path, mmap_mode=mode)  # type: ignore[arg-type]


def checksum(data: ArrayLike | bytes) -> int:
  """CRC-32 of an array's bytes, or of bytes."""
  if not isinstance(data, bytes):
    data = np.ascontiguousarray(data).data.cast('B')
  return zlib.crc32(data)
