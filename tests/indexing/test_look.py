"""What a file is, by what it holds; what cannot be used, and why."""
import PIL.Image
import pytest

from jaxret.data import clips, sources
from jaxret.indexing import look, walk
from tests import numbered_videos, tiny_index, tiny_unite


def looked(folder, name, window=2.0, stride=2.0):
  found = {one.path: one for one in walk.walk(folder).found}[name]
  return look.look(found, look.digest(found), window, stride)


def test_kinds_are_those_of_the_content(tmp_path):
  tiny_index.folder(tmp_path)
  (tmp_path / 'a.png').rename(tmp_path / 'wrong.mp4')
  (tmp_path / 'b.jpg').rename(tmp_path / 'wrong.txt')
  stills = [PIL.Image.fromarray(tiny_unite.pixels(i, 8, 8)) for i in range(9)]
  stills[0].save(tmp_path / 'moves.gif', save_all=True,
                 append_images=stills[1:], duration=1000)
  stills[0].save(tmp_path / 'stays.gif')
  want = {'wrong.mp4': 'image', 'wrong.txt': 'image', 'note.txt': 'text',
          'trip/clip.mp4': 'video', 'moves.gif': 'video', 'stays.gif': 'image'}
  for name, kind in want.items():
    assert {row['kind'] for row in looked(tmp_path, name).rows} == {kind}
  assert len(looked(tmp_path, 'moves.gif').rows) == 5  # 9 s by 2
  assert looked(tmp_path, 'note.txt').rows[0]['text'] == 'a dog'


def test_moments(tmp_path):
  (tmp_path / 'a.mp4').write_bytes(numbered_videos.video(125))
  found = looked(tmp_path, 'a.mp4')
  assert [(row['start_s'], row['end_s'], row['duration_s'])
          for row in found.rows] == [(0, 2, 5), (2, 4, 5), (3, 5, 5)]
  file = str(tmp_path / 'a.mp4')
  assert [item.video for item in found.items] == [
      clips.Clip(file, 0.0, 2.0), clips.Clip(file, 2.0, 4.0),
      clips.Clip(file, 3.0, 5.0)]
  assert [item.id for item in found.items] == [
      'a.mp4 at 0 s', 'a.mp4 at 2 s', 'a.mp4 at 3 s']
  whole = looked(tmp_path, 'a.mp4', 10.0, 10.0)
  assert [item.video for item in whole.items] == [file]
  assert whole.rows[0]['end_s'] == 5


@pytest.mark.parametrize('name, content, said', [
    ('a.png', b'', 'the file is empty'), ('a.png', b'x' * 99, 'not a readable'),
    ('a.mp4', b'x' * 99, 'not a readable video'), ('a.txt', b'  ', 'no text'),
    ('a.txt', b'caf\xe9', 'not a text in UTF-8'),
    ('a.mp4', b'#EXTM3U\n/etc/passwd\n', 'not a readable video')])
def test_what_cannot_be_used(tmp_path, name, content, said):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(sources.MediaError, match=said) as error:
    looked(tmp_path, name)
  assert '\n' not in str(error.value)


def test_the_digest_is_of_the_content(tmp_path):
  tiny_index.picture(tmp_path / 'a.png', 0)
  tiny_index.picture(tmp_path / 'b.png', 0)
  tiny_index.picture(tmp_path / 'c.png', 1)
  a, b, c = (look.digest(one) for one in walk.walk(tmp_path).found)
  assert a == b != c
  text = walk.Found('l:1', None, 3, 0, 'one')
  assert look.digest(text) != look.digest(text._replace(text='two'))
  (tmp_path / 'c.png').unlink()
  gone = walk.Found('c.png', str(tmp_path / 'c.png'), 3, 0)
  with pytest.raises(sources.MediaError, match='c.png: it cannot be read'):
    look.digest(gone)
