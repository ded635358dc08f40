"""Links to the media that the page shows."""
import base64
import re
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxret import report
from jaxret.data import clips
from jaxret.report import media_links
from tests import tables

FRAMES = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.fixture
def clip(tmp_path):
  path = tmp_path / 'media' / 'a: dog?.mp4'
  path.parent.mkdir()
  path.write_bytes(b'a clip')
  return report.Shown('dog', frames=FRAMES, path=str(path))


def test_links_are_relative_to_the_page(clip, tmp_path):
  made = media_links.Links(tmp_path / 'workdirs' / 'one')
  assert made(clip) == './../../media/a%3A%20dog%3F.mp4'


def test_an_embedded_file_is_its_bytes(clip, tmp_path):
  """Once, however often it is shown."""
  links = media_links.Links(tmp_path, embed=True)
  assert links(clip) == links(clip) == '#medium-0'
  (name, url, is_image), = links.embedded
  head, _, data = url.partition(',')
  assert (name, is_image, head) == ('medium-0', False, 'data:video/mp4;base64')
  assert base64.b64decode(data) == b'a clip'


def test_what_is_too_large_for_the_page_stays_a_file(
    clip, tmp_path, monkeypatch):
  monkeypatch.setattr(media_links, 'MOST_EMBEDDED', 8)
  other = tmp_path / 'other.mp4'
  other.write_bytes(b'a clip')
  links = media_links.Links(tmp_path, embed=True)
  assert links(clip) == '#medium-0'
  assert links(report.Shown('o', frames=FRAMES, path=str(other))
               ) == './other.mp4'
  assert (len(links.embedded), links.too_large) == (1, 1)


@pytest.mark.parametrize('path', [None, 'gone.mp4', '.'])
def test_what_is_no_file_has_no_link(path, tmp_path):
  shown = report.Shown('x', frames=FRAMES, path=path)
  assert media_links.Links(tmp_path)(shown) is None


@pytest.mark.parametrize('medium, path', [
    ('a.mp4', 'a.mp4'), (clips.Clip('a.mp4', 1, 2), 'a.mp4'), (b'bytes', None),
    (('a.jpg',), 'a.jpg'), (('a.jpg', 'b.jpg'), None), (FRAMES, None),
    (None, None)])
def test_the_file_of_a_medium(medium, path):
  assert report.path_of(medium) == path


@pytest.mark.parametrize('embed', [False, True])
def test_page_links_to_what_it_shows(clip, inputs, tmp_path, embed):
  query = report.GalleryQuery(
      'text_to_video', report.Shown('t', 'a dog'), clip,
      {'blim': report.Ranked(1, (clip,), (True,), (0.12345,))})
  page = report.write(tmp_path, inputs['results'], gallery=[query],
                      embed_media=embed).read_text()
  start = '#medium-' if embed else './media/'
  links = re.findall(f'<a href="{start}', page)
  assert len(links) == 2  # the relevant one, and the answer
  assert page.count('data:video/mp4') == page.count('<video') == embed
  assert '<div class="score">score 0.1235</div>' in page


def test_what_lies_in_an_archive_or_a_table_is_put_into_the_page(
    inputs, tmp_path):
  """Without that no link leads there, and its frames are shown as they are."""
  with zipfile.ZipFile(tmp_path / 'm.zip', 'w') as archive:
    archive.writestr('a/1.mp4', b'a clip')
  image = tables.png(3)
  pq.write_table(pa.table({'image': [image]}), tmp_path / 'm.parquet')
  clip, cell, gone = (
      report.Shown(name, frames=FRAMES, path=str(tmp_path / name))
      for name in ('m.zip/a/1.mp4', 'm.parquet/0/image', 'm.zip/2.mp4'))
  outside = media_links.Links(tmp_path)
  links = media_links.Links(tmp_path, embed=True)
  for shown, link, is_still in (
      (clip, '#medium-0', False), (cell, '#medium-1', True),
      (gone, None, False)):
    assert outside(shown) is None
    assert (links(shown), links.is_still(shown)) == (link, is_still)
  assert [one.url.partition(',')[0] for one in links.embedded] == [
      'data:video/mp4;base64', 'data:image/png;base64']
  assert base64.b64decode(links.embedded[1].url.partition(',')[2]) == image
  query = report.GalleryQuery(
      'text_to_video', report.Shown('t', 'a dog'), cell,
      {'blim': report.Ranked(1, (clip,), (True,))})
  page = report.write(tmp_path / 'w', inputs['results'], gallery=[query],
                      embed_media=True).read_text()
  assert re.findall('<a href="#medium-.*?>', page) == [
      '<a href="#medium-0" data-still="1">', '<a href="#medium-1">']
  assert page.count('<img alt="enlarged"') == page.count('<video') == 1
  assert page.count('class="frames tile-') == 2
