"""Tar files that are compressed as a whole: unpacked once, to a plain one.

Such a file has no place where one could begin to read a member. A tar is made
of it in the cache, whose members are read in place.
"""
import bz2
import contextlib
import gzip
import lzma

from absl import logging

from jaxret.data.containers import kept

_OPEN = {'.tar.gz': gzip.open, '.tgz': gzip.open, '.tar.bz2': bz2.open,
         '.tar.xz': lzma.open}
ENDINGS = tuple(_OPEN)
# Media are compressed already; what grows more than this fills a disk.
MOST_TIMES = 50
_BLOCK = 1 << 20


def plain(path, state, joined):
  """The path of the tar that a compressed one holds.

  state: (size, time) of its files. joined: () -> a file of their bytes.
  Errors: ValueError that names the file; what the decompressors raise.
  """
  ending = next(one for one in ENDINGS if path.lower().endswith(one))
  size = sum(part for part, _ in state)

  def write(partial):
    logging.info('%s is compressed as a whole: unpacking its %.1f GB once, '
                 'into %s', path, size / 1e9, partial.parent)
    try:
      with (contextlib.closing(joined()) as file, _OPEN[ending](file) as source,
            open(partial, 'wb') as out):
        while block := source.read(_BLOCK):
          out.write(block)
          if out.tell() > MOST_TIMES * size + _BLOCK:
            raise ValueError(f'{path} is more than {MOST_TIMES} times as large '
                             'without compression: unpack it yourself')
    except OSError as error:
      if error.errno is None:  # of the decompressor: no such file
        raise EOFError(str(error)) from None
      raise ValueError(
          f'{path} is compressed as a whole and cannot be unpacked into '
          f'{partial.parent} ({error.strerror}): unpack it elsewhere, or let '
          'JAXRET_CACHE be a directory with more room') from None
    except lzma.LZMAError as error:
      raise EOFError(str(error)) from None
  return kept.made('archives', '.tar', (path, state), write)
