"""Ranges of bytes as the standard has them; what was opened is looked at."""
import os

import pytest

from tests import tiny_index, tiny_serving

media_files = tiny_serving.part('media_files')

CONTENT = bytes(range(256)) * 2048  # two blocks


@pytest.fixture
def ask(tmp_path):
  """(method, headers) -> the answer for a file."""
  path = tmp_path / 'ä "b".mp4'
  path.write_bytes(CONTENT)
  async def app(scope, receive, send):
    number = os.open(path, os.O_RDONLY)
    await media_files.FileAnswer(media_files.Opened(
        number, os.fstat(number)), f'x/{path.name}')(scope, receive, send)
    with pytest.raises(OSError):
      os.fstat(number)  # it is closed
  client = tiny_serving.client(app)
  return lambda method='GET', **headers: client.request(
      method, '/', headers={name.replace('_', '-'): value
                            for name, value in headers.items()})


@pytest.mark.parametrize('asked, start, stop', [
    ('bytes=0-0', 0, 1), ('bytes=10-19', 10, 20), ('bytes=5-', 5, None),
    ('bytes=-7', -7, None), ('BYTES=3-4', 3, 5),
    ('bytes=524280-99999999999999999', 524280, None),
    ('bytes=-99999999999', 0, None)])
def test_ranges(ask, asked, start, stop):
  answer, want = ask(range=asked), CONTENT[start:stop]
  first = start % len(CONTENT)
  assert (answer.status_code, answer.content) == (206, want)
  assert answer.headers['content-length'] == str(len(want))
  assert answer.headers['content-range'] == (
      f'bytes {first}-{first + len(want) - 1}/{len(CONTENT)}')


@pytest.mark.parametrize('asked', [
    '', 'bytes', 'bytes=', 'bytes=-', 'bytes=a-b', 'bytes=9-3', 'bytes=--1',
    'bytes=1-2-3', 'items=0-1', 'bytes=0-1,5-6', 'bytes=0x1-2', '0-1',
    'bytes=1.5-2', 'bytes=-1-5', f'bytes={"9" * 400}-', 'bytes=٣-٤'])
def test_what_is_no_range_is_passed_by(ask, asked):
  answer = ask(range=asked.encode())
  assert (answer.status_code, answer.content) == (200, CONTENT)
  assert answer.headers['content-length'] == str(len(CONTENT))
  assert answer.headers['accept-ranges'] == 'bytes'


@pytest.mark.parametrize('asked', ['bytes=524288-', 'bytes=999999-1000000',
                                   'bytes=-0'])
def test_a_range_behind_the_end(ask, asked):
  answer = ask(range=asked)
  assert (answer.status_code, answer.content) == (416, b'')
  assert answer.headers['content-range'] == f'bytes */{len(CONTENT)}'


def test_head_and_versions(ask):
  whole = ask('HEAD', range='bytes=1-2')
  assert (whole.status_code, whole.content) == (200, b'')
  assert whole.headers['content-length'] == str(len(CONTENT))
  tag = whole.headers['etag']
  assert ask(if_none_match=f'"x", W/{tag}').status_code == 304
  assert ask(range='bytes=1-2', if_range=tag).content == CONTENT[1:3]
  assert ask(range='bytes=1-2', if_range='"old"').content == CONTENT
  assert whole.headers['content-type'] == 'video/mp4'
  assert whole.headers['content-disposition'] == (
      "inline; filename*=UTF-8''%C3%A4%20%22b%22.mp4")
  assert 'sandbox' in whole.headers['content-security-policy']


@pytest.mark.slow
def test_a_link_that_is_put_there_meanwhile(tmp_path):
  tiny_index.picture(tmp_path / 'media' / 'a.png', 0)
  tiny_index.picture(tmp_path / 'secret.png', 1)
  index = tiny_serving.indexed(tmp_path)
  hit, = index.search('a')
  file = tmp_path / 'media' / 'a.png'
  opened = media_files.opened(index, hit)
  assert os.read(opened.number, 9999) == file.read_bytes()
  os.close(opened.number)

  class Late:
    """Between the first look and the opening somebody is quick."""

    def file_of(self, hit):
      found = index.file_of(hit)
      if found and not file.is_symlink():
        file.unlink()
        file.symlink_to(tmp_path / 'secret.png')
      return found
  n_open = len(os.listdir('/proc/self/fd'))
  assert media_files.opened(Late(), hit) is None
  file.unlink()
  os.mkfifo(file)
  assert media_files.opened(index, hit) is None
  file.unlink()
  assert media_files.opened(index, hit) is None
  assert len(os.listdir('/proc/self/fd')) == n_open
