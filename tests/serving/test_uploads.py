"""Uploads: bounded as they come, gone when they were looked at."""
import asyncio
import tempfile

import pytest

from jaxret.serving.refusals import Refused
from tests import numbered_videos, tiny_index, tiny_serving

uploads = tiny_serving.part('uploads')


class Sent:
  """A request of some chunks; counts what is read."""

  def __init__(self, chunks, stated=None):
    self.chunks, self.n_read = chunks, 0
    self.headers = {} if stated is None else {'content-length': stated}

  async def stream(self):
    for chunk in self.chunks:
      self.n_read += 1
      yield chunk


def received(takes, sent, look=lambda path: path.read_bytes()):
  async def run():
    async with takes.received(sent) as path:
      return look(path)
  return asyncio.run(run())


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  return tmp_path


def test_an_upload_does_not_stay(folder):
  seen = []
  def look(path):
    seen.append(path)
    return path.read_bytes()
  assert received(uploads.Uploads(6), Sent([b'abc', b'', b'def']),
                  look) == b'abcdef'
  assert seen[0].is_relative_to(folder) and not list(folder.iterdir())
  with pytest.raises(ZeroDivisionError):
    received(uploads.Uploads(6), Sent([b'a']), lambda path: 1 / 0)
  assert not list(folder.iterdir())


def test_what_is_too_large_is_not_read(folder):
  takes = uploads.Uploads(5)
  stated = Sent([b'abc'] * 1000, '3000')
  with pytest.raises(Refused, match='larger than 5 bytes') as error:
    received(takes, stated)
  assert (error.value.status, stated.n_read) == (413, 0)
  for length in (None, '3', '-1', '²'):  # it does not say, or lies
    unstated = Sent([b'abc'] * 1000, length)
    with pytest.raises(Refused, match='larger') as error:
      received(takes, unstated)
    assert (error.value.status, unstated.n_read) == (413, 2)
  with pytest.raises(Refused, match='larger'):
    received(takes, Sent([], '9' * 5000))
  assert not list(folder.iterdir())


def test_what_is_empty_or_too_slow(folder):
  with pytest.raises(Refused, match='the upload is empty'):
    received(uploads.Uploads(), Sent([b'']))

  class Slow(Sent):

    async def stream(self):
      yield b'a'
      await asyncio.sleep(60)
  with pytest.raises(Refused, match='longer than 0.05 s') as error:
    received(uploads.Uploads(seconds=0.05), Slow([]))
  assert error.value.status == 408 and not list(folder.iterdir())


def test_what_an_upload_is_its_content_says(tmp_path):
  path = tmp_path / 'upload'
  tiny_index.picture(tmp_path / 'a.png', 0)
  path.write_bytes((tmp_path / 'a.png').read_bytes())
  assert uploads.item(path, 'a').image == str(path)
  assert uploads.item(path, 'a').order == ('text', 'image')
  path.write_bytes(numbered_videos.video(50))
  found = uploads.item(path)
  assert (found.video, found.image, found.order) == (
      str(path), None, ('video',))
  for content in (b'x' * 100, b'#EXTM3U\nfile:///etc/passwd\n',
                  b'ffconcat version 1.0\nfile /etc/passwd\n',
                  (tmp_path / 'a.png').read_bytes()[:40]):
    path.write_bytes(content)
    with pytest.raises(Refused, match='no image or video') as error:
      uploads.item(path)
    assert str(path) not in str(error.value)
    assert error.value.status == 400
