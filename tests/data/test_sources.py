"""Files are found as they are written, and every fault has a name."""
import os
import struct
import unicodedata
import zlib

import pytest

from jaxret.data import entries, media, sources
from tests.numbered_videos import video

NFC, NFD = (unicodedata.normalize(form, 'café ü') for form in ('NFC', 'NFD'))


@pytest.mark.parametrize('stored, asked', [
    ((NFC, NFC), (NFD, NFD)), ((NFD, NFD), (NFC, NFC)),
    ((NFC, NFD), (NFD, NFC)), ((NFD, NFC), (NFC, NFC))])
def test_letters_with_accents_are_found_however_composed(
    tmp_path, stored, asked):
  folder, name = stored
  path = tmp_path / folder / f'{name}.mp4'
  path.parent.mkdir()
  path.write_bytes(video(3))
  other = tmp_path / asked[0] / f'{asked[1]}.mp4'
  assert str(path) != str(other)
  assert sources.located(other) == sources.located(str(path)) == str(path)
  assert media.probe(str(other)).n_frames == 3
  assert entries.find(
      tmp_path / asked[0], f'{asked[1]}.mp4', ('', 'videos')) == str(path)


def test_a_name_that_is_nowhere_stays_as_it_was(tmp_path):
  missing = str(tmp_path / NFD / NFC)
  assert sources.located(missing) == missing
  with pytest.raises(media.MediaError, match='no such file') as error:
    media.read_image(missing)
  assert str(error.value).startswith(missing)
  # Of two that differ in nothing else, each is itself.
  for name in (NFC, NFD):
    (tmp_path / name).write_text(name)
    assert sources.located(tmp_path / name) == str(tmp_path / name)


@pytest.mark.parametrize('read', [media.read_image, media.probe])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
  os.mkfifo(tmp_path / 'pipe.png')
  (tmp_path / 'empty').touch()
  for name, reason in (('pipe.png', 'a device, not a file'),
                       ('', 'a directory, not a file'), ('x', 'no such file'),
                       ('empty', 'the file is empty'), ('a\0b', 'no such'),
                       (300 * 'a', 'no such file')):
    with pytest.raises(media.MediaError, match=reason):
      read(str(tmp_path / name))
  with pytest.raises(media.MediaError, match='the file is empty'):
    read(b'')


@pytest.mark.parametrize('error', [
    ValueError('v'), OSError(5, 'o'), SyntaxError('s'), struct.error('t'),
    MemoryError(), IndexError('i'), KeyError('k'), TypeError('y'), zlib.error(
        'z'), EOFError(), OverflowError('w'), RecursionError('r'),
    UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'u')])
def test_whatever_a_decoder_raises_is_a_media_error(error):
  with pytest.raises(media.MediaError, match='^x.png: not readable') as found:
    with sources.blamed('x.png', 'not readable'):
      raise error
  assert found.value.__cause__ is error
  known = isinstance(error, (OSError, ValueError, SyntaxError))
  assert known or type(error).__name__ in str(found.value)


def test_a_fault_that_has_a_name_keeps_it():
  with pytest.raises(media.MediaError, match='^a: b$'):
    with sources.blamed('x.png', 'not readable'):
      raise media.MediaError('a', 'b')
  with pytest.raises(KeyboardInterrupt):  # a user's is no file's
    with sources.blamed('x.png', 'not readable'):
      raise KeyboardInterrupt


def test_a_message_can_be_printed_whatever_the_name():
  name = os.fsdecode(b'caf\xe9.png')  # as Linux may hold it
  error = media.MediaError(name, 'two\n lines \ud83d')
  assert error.name == name
  assert str(error) == 'caf\\udce9.png: two lines \\ud83d'
  str(error).encode()


def test_a_file_whose_name_is_no_text_is_read(tmp_path):
  path = os.path.join(os.fsencode(tmp_path), b'caf\xe9.mp4')
  with open(path, 'wb') as file:
    file.write(video(3))
  assert media.probe(os.fsdecode(path)).n_frames == 3
