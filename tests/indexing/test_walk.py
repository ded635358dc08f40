"""What is found in folders and lists, and what is not followed."""
import json
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxret.indexing import walk
from tests import tiny_index

HOSTILE = ("a'b.png", 'a"b.png', 'a\nb.png', 'a;DROP TABLE items--.png',
           '-k.png', '<b>&amp;.png', 'a b\tc.png', '%s{0}.png', 'ä\u202e.png')


def paths(source, **options):
  return [one.path for one in walk.walk(source, **options).found]


def reasons(source, **options):
  return {one.path: one.reason for one in walk.walk(source, **options).skipped}


def test_a_folder(tmp_path):
  tiny_index.folder(tmp_path)
  (tmp_path / '.hidden.png').write_bytes(b'x')
  (tmp_path / '.git').mkdir()
  (tmp_path / '.git' / 'x.png').write_bytes(b'x')
  inner = tmp_path / 'an index'
  inner.mkdir()
  (inner / 'index.jaxret').write_text('{}')
  (inner / 'x.png').write_bytes(b'x')
  assert paths(tmp_path) == ['a.png', 'b.jpg', 'broken.mp4', 'empty.png',
                             'note.txt', 'trip/c.png', 'trip/clip.mp4']
  assert reasons(tmp_path) == {
      'table.csv': 'its ending, .csv, is that of no image, video or text'}
  first = walk.walk(tmp_path).found[0]
  state = os.stat(tmp_path / 'a.png')
  assert (first.size, first.mtime_ns) == (state.st_size, state.st_mtime_ns)


def test_names_of_any_kind(tmp_path):
  for name in HOSTILE:
    (tmp_path / name).write_bytes(b'x')
  (tmp_path / 'caf\udce9.png').write_bytes(b'x')  # Latin-1, not UTF-8
  assert sorted(paths(tmp_path)) == sorted(HOSTILE)
  assert reasons(tmp_path) == {
      'caf\udce9.png': 'its name is no text in UTF-8: rename it'}


def test_links_stay_in_the_folder_unless_told(tmp_path):
  outside, inside = tmp_path / 'outside', tmp_path / 'inside'
  tiny_index.picture(outside / 'secret.png', 0)
  tiny_index.picture(inside / 'a.png', 1)
  (inside / 'same.png').symlink_to(inside / 'a.png')
  (inside / 'out.png').symlink_to(outside / 'secret.png')
  (inside / 'gone.png').symlink_to(inside / 'nothing.png')
  (inside / 'folder').symlink_to(outside)
  (inside / 'circle').symlink_to(inside)
  os.mkfifo(inside / 'pipe.png')
  assert paths(inside) == ['a.png', 'same.png']
  found = reasons(inside)
  assert '--follow_links' in found['out.png']
  assert '--follow_links' in found['folder'] and 'circle' in found
  assert found['gone.png'] == 'no such file'
  assert found['pipe.png'] == 'not a file'
  assert paths(inside, follow_links=True) == [
      'a.png', 'out.png', 'same.png', 'folder/secret.png']


def test_lists_of_every_kind_name_the_same(tmp_path):
  tiny_index.folder(tmp_path)
  rows = [{'image': 'a.png', 'caption': ['one', ' two ']},
          {'video': 'trip/clip.mp4', 'caption': 'a clip'},
          {'image': 'a.png', 'caption': 'three'}, {'text': 'a cat'}]
  (tmp_path / 'captions.json').write_text(json.dumps(rows))
  (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  columns = {name: [row.get(name) for row in rows]
             for name in ('image', 'video', 'text')}
  columns['caption'] = ['one\ntwo', 'a clip', 'three', None]
  pyarrow.parquet.write_table(pa.table(columns), tmp_path / 'rows.parquet')
  for name in ('captions.json', 'rows.jsonl', 'rows.parquet'):
    found = walk.walk(tmp_path / name).found
    assert [(one.path, one.caption, one.text) for one in found] == [
        ('a.png', 'one\ntwo\nthree', None), ('trip/clip.mp4', 'a clip', None),
        (f'{name}:4', None, 'a cat')]
  (tmp_path / 'files.lst').write_text('trip/c.png\n\na.png\nnone.png\n')
  assert paths(tmp_path / 'files.lst') == ['trip/c.png', 'a.png']
  assert reasons(tmp_path / 'files.lst') == {'none.png': 'no such file'}


def test_a_list_in_python_names_any_file(tmp_path, monkeypatch):
  tiny_index.picture(tmp_path / 'a.png', 0)
  monkeypatch.chdir(tmp_path)
  whole = str(tmp_path / 'a.png')
  assert paths(['a.png', tmp_path / 'a.png']) == [whole]
  with pytest.raises(ValueError, match='entry 0: got a int'):
    walk.walk([3])


@pytest.mark.parametrize('name', ['../secret.png', '/etc/passwd.png',
                                  'x/../../secret.png'])
def test_lists_name_nothing_outside_of_their_folder(tmp_path, name):
  tiny_index.picture(tmp_path / 'secret.png', 0)
  inside = tmp_path / 'inside'
  tiny_index.picture(inside / 'a.png', 0)
  path = inside / 'captions.json'
  path.write_text(json.dumps([{'image': 'a.png'}, {'image': name}]))
  with pytest.raises(ValueError, match='entry 2: got .*not in its folder') as e:
    walk.walk(path)
  assert '\n' not in str(e.value)
  if name == '../secret.png':
    assert paths(path, follow_links=True) == [
        'a.png', str(tmp_path / 'secret.png')]


def test_a_link_in_a_list_stays_in_the_folder(tmp_path):
  tiny_index.picture(tmp_path / 'secret.png', 0)
  inside = tmp_path / 'inside'
  inside.mkdir()
  (inside / 'a.png').symlink_to(tmp_path / 'secret.png')
  (inside / 'captions.json').write_text(json.dumps([{'image': 'a.png'}]))
  assert '--follow_links' in reasons(inside / 'captions.json')['a.png']


@pytest.mark.parametrize('name, content, said', [
    ('none', None, 'no such folder'), ('a.png', 'x', 'lists no others'),
    ('a.json', '{}', 'wanted a list of objects'), ('a.json', '[', 'not valid'),
    ('a.json', '[{"picture": "a"}]', 'wanted one of image, video'),
    ('a.json', '[{"image": "a", "text": "b"}]', 'wanted one of image'),
    ('a.json', '[{"image": 3}]', "'image' a number, wanted a string"),
    ('a.json', '[{"text": "\\ud83d"}]', 'lone surrogate'),
    ('a.json', '[{"text": "a", "caption": 3}]', 'caption 3'),
    ('a.parquet', 'x', 'not a parquet file')])
def test_what_is_no_source_is_said_in_one_line(tmp_path, name, content, said):
  if content is not None:
    (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=said) as error:
    walk.walk(tmp_path / name)
  assert '\n' not in str(error.value)
