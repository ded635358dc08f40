"""Where a medium lies, what it is called, and whose fault it is.

A source is a path or the encoded bytes. A path is found also where its letters
with accents are composed otherwise than on the disk (macOS writes e and its
accent apart), and may go on inside an archive or a table, see containers.
Whatever is raised while a medium is read is its MediaError.
"""
import contextlib
import os
import threading
import unicodedata

from jaxret.data import containers

MOST_PIXELS = 89_478_485  # above it Pillow warns of what is small in a file
_most_pixels = MOST_PIXELS
_last = threading.local()  # what a thread read last inside of a file


class MediaError(ValueError):
  """A medium that cannot be read: which one, and why, in one line."""

  def __init__(self, name, reason):
    self.name = name
    self.reason = printable(' '.join(str(reason).split()))
    super().__init__(f'{printable(name)}: {self.reason}')


def limit_pixels(count):
  """Sets how many pixels an image, or a frame of a video, may have.

  Of this process, and of what is read from then on; MOST_PIXELS before.
  """
  global _most_pixels
  _most_pixels = int(count)


def most_pixels():
  """How many pixels an image, or a frame of a video, may have."""
  return _most_pixels


def check_pixels(width, height):
  """Raises ValueError for a picture that is empty, or beyond the limit."""
  if not width or not height:
    raise ValueError(f'{width}x{height} pixels: it is empty')
  if width * height > _most_pixels:
    raise ValueError(f'{width}x{height} pixels, want at most {_most_pixels}: '
                     'make it smaller, or raise data.max_pixels')


def printable(text):
  """A text without lone surrogates, which no terminal and no file takes."""
  return str(text).encode('utf-8', 'backslashreplace').decode()


def one_line(text):
  """A name as one line of a terminal, whatever is in it."""
  return ''.join(
      letter if letter.isprintable() else
      printable(letter).encode('unicode_escape').decode()
      for letter in text)


def name_of(source, kind):
  """What a message calls a source; kind: 'image' or 'video'."""
  return f'{kind} bytes' if isinstance(source, bytes) else os.fspath(source)


def located(path):
  """`path`, or the same name as the disk composes it; as given if nowhere."""
  path = os.fspath(path)
  if path.isascii() or os.path.exists(path):
    return path
  folder, name = os.path.split(path)
  if folder and folder != path:
    folder = located(folder)
  for form in ('NFC', 'NFD'):
    other = os.path.join(folder, unicodedata.normalize(form, name))
    if os.path.exists(other):
      return other
  return path


def is_file(path):
  """Whether a path is that of a file, or leads to a medium inside of one.

  Errors: ValueError for an archive that cannot be read.
  """
  return os.path.isfile(path) or containers.has(path)


def state(path):
  """(size, time of change in ns) of a file, or of that which a path leads into.

  Errors: OSError where there is none.
  """
  path = located(path)
  if not os.path.exists(path) and (found := containers.state(path)):
    return found
  found = os.stat(path)
  return found.st_size, found.st_mtime_ns


def checked(source, kind):
  """A source that can be opened: bytes, or the path of a file, not empty.

  Of a path that goes on inside a file the bytes are given.
  """
  name = name_of(source, kind)
  if not isinstance(source, bytes):
    source = located(source)
    if not os.path.exists(source) and containers.located(source):
      source = _inside(source, name)
  if not isinstance(source, bytes):
    if not os.path.isfile(source):  # a pipe would be waited for
      raise MediaError(
          name, 'no such file' if not os.path.exists(source) else
          f'{"a directory" if os.path.isdir(source) else "a device"}, not a '
          'file')
  if not (len(source) if isinstance(source, bytes)
          else os.path.getsize(source)):
    raise MediaError(name, 'the file is empty')
  return source


def _inside(path, name):
  """The bytes inside of a file, which a thread reads once for all it asks."""
  key = path, containers.state(path)
  if getattr(_last, 'key', None) != key:
    with blamed(name, 'cannot be read'):
      _last.data, _last.key = containers.read(path), key
  return _last.data


def head(source, n_bytes=64):
  """The first bytes of a source, b'' where there is none."""
  if isinstance(source, bytes):
    return source[:n_bytes]
  path = located(source)
  try:
    if os.path.isfile(path):
      with open(path, 'rb') as file:
        return file.read(n_bytes)
    if containers.located(path):
      return _inside(path, path)[:n_bytes]
  except (OSError, MediaError):
    pass  # who reads it says why
  return b''


@contextlib.contextmanager
def blamed(name, what):
  """Makes whatever is raised inside the MediaError `name`: `what` (its cause).

  Decoders raise a dozen types for damaged bytes, and absurd sizes a
  MemoryError; who leaves out bad items must know one.
  """
  try:
    yield
  except MediaError:
    raise
  except Exception as error:
    raise MediaError(name, f'{what} ({cause(error)})') from error


def cause(error):
  """A decoder's own words for an error, without numbers and addresses."""
  words = getattr(error, 'strerror', None) or str(error).partition(' <')[0]
  known = isinstance(error, (OSError, ValueError, SyntaxError))
  return words if words and known else f'{type(error).__name__} {words}'.strip()
