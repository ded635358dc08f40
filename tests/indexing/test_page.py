"""The page: whole, escaped, and nothing from outside."""
import html.parser

import pytest

from jaxret.indexing import hits, page
from tests import numbered_videos, tiny_index

BAD = '<script>alert("1")</script>\'"&\n../x'


class Parsed(html.parser.HTMLParser):

  def __init__(self, text):
    super().__init__()
    self.tags, self.text, self.attributes = [], '', []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, *one) for one in attrs]

  def handle_data(self, data):
    self.text += data


@pytest.fixture
def shown(tmp_path):
  tiny_index.picture(tmp_path / 'a.png', 0)
  (tmp_path / 'b.mp4').write_bytes(numbered_videos.video(100))
  (tmp_path / 'broken.png').write_bytes(b'x')
  found = [hits.Hit('a.png', 'image', 0.5, caption=BAD),
           hits.Hit(BAD, 'video', 0.4, 61.0, 75.0, 100.0, likelihood=-1.25),
           hits.Hit('n.txt', 'text', 0.3, text=BAD, rerank=0.75),
           hits.Hit('gone.png', 'image', 0.2),
           hits.Hit('broken.png', 'image', 0.1)]
  files = {'a.png': 'a.png', BAD: 'b.mp4', 'broken.png': 'broken.png'}
  text = page.render({'text': BAD}, found, lambda hit: files.get(hit.path) and (
      str(tmp_path / files[hit.path])), BAD)
  return text, Parsed(text)


def test_what_is_shown_is_escaped(shown):
  text, parsed = shown
  assert 'script' not in parsed.tags and '<script' not in text
  assert parsed.text.count(BAD) >= 5  # as it is, in words
  for number in ('0.5000', '-1.2500', '0.7500', '1:01 to 1:15'):
    assert number in parsed.text
  assert parsed.text.count('no picture') == 2


def test_nothing_is_loaded_from_outside(shown):
  _, parsed = shown
  sources = [value for _, name, value in parsed.attributes
             if name in ('src', 'href', 'srcset', 'action')]
  assert len(sources) == 2
  assert all(one.startswith('data:image/jpeg;base64,') for one in sources)


def test_the_picture_of_a_moment_is_its_middle(tmp_path):
  import base64
  import io

  import numpy as np
  from PIL import Image
  (tmp_path / 'b.mp4').write_bytes(numbered_videos.video(100))
  hit = hits.Hit('b.mp4', 'video', 0.4, 2.0, 3.0, 4.0)
  jpeg = base64.b64decode(page.thumbnail(hit, str(tmp_path / 'b.mp4')))
  frame = np.asarray(Image.open(io.BytesIO(jpeg)))
  assert numbered_videos.number(frame) == 62
