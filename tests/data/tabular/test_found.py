"""Where the media of a table lie, and where they must not."""
import pytest

from jaxret.data import images
from jaxret.data.tabular import found
from tests import tables
from tests.data.containers.test_archives import tarred, zipped


def test_a_name_is_found_in_folders_and_then_in_archives(tmp_path):
  (tmp_path / 'videos').mkdir()
  (tmp_path / 'sub').mkdir()
  for name in ('1.png', 'videos/2.png', 'sub/3.png'):
    (tmp_path / name).write_bytes(tables.png(0))
  zipped(tmp_path / 'all.zip', {'MSRVTT/all/1.png': tables.png(1),
                                'MSRVTT/all/4.png': tables.png(4)})
  tarred(tmp_path / 'sub' / 'more.tar', {'5.png': tables.png(5)})
  names = found.Names(tmp_path)
  table = tmp_path / 'sub' / 'x.json'
  for name, wanted in (
      ('1.png', '1.png'), ('2.png', 'videos/2.png'), ('3.png', 'sub/3.png'),
      ('4.png', 'all.zip/MSRVTT/all/4.png'),
      ('all/4.png', 'all.zip/MSRVTT/all/4.png'),
      ('5.png', 'sub/more.tar/5.png'), ('ll/4.png', 'll/4.png'),
      ('all.zip/MSRVTT/all/1.png', 'all.zip/MSRVTT/all/1.png'),
      ('no.png', 'no.png')):
    assert names.find(name, table) == str(tmp_path / wanted)


def test_archives_in_parts_are_one(tmp_path):
  path = tarred(tmp_path / 'x.tar', {'a/1.png': tables.png(7)})
  data = path.read_bytes()
  path.unlink()
  for name, part in (('00', data[:600]), ('01', data[600:])):
    path.with_name(f'x.tar.part-{name}').write_bytes(part)
  where = found.Names(tmp_path).find('1.png', tmp_path / 'x.json')
  assert where == f'{path}/a/1.png' and images.read(where)[0, 0, 0] == 7


def test_two_members_of_a_name_are_told_apart_or_refused(tmp_path):
  zipped(tmp_path / 'x.zip', {'a/1.png': b'', 'b/1.png': b'', '2.png': b'',
                              'c/2.png': b''})
  names = found.Names(tmp_path)
  table = tmp_path / 't.json'
  assert names.find('b/1.png', table) == f'{tmp_path}/x.zip/b/1.png'
  assert names.find('2.png', table) == f'{tmp_path}/x.zip/2.png'
  with pytest.raises(ValueError, match=r'a/1.png and .*b/1.png'):
    names.find('1.png', table)


@pytest.mark.parametrize('name, said', [
    ('../secret.png', 'not in'), ('/etc/passwd', 'not in'),
    ('a/../../secret.png', 'not in'), ('x.zip/../../secret.png', 'no'),
    ('https://example.org/a.png', 'URLs are not fetched'),
    ('S3://bucket/a.png', 'URLs are not fetched'),
    ('file:///etc/passwd', 'URLs are not fetched')])
def test_a_name_leads_nowhere_else(tmp_path, name, said):
  (tmp_path / 'secret.png').write_bytes(tables.png(0))
  root = tmp_path / 'own'
  root.mkdir()
  zipped(root / 'x.zip', {'1.png': b''})
  with pytest.raises(ValueError, match=said):
    found.Names(root).find(name, root / 't.json')


def test_archives_are_named(tmp_path):
  for name in ('a.tar.gz.part-0', 'a.tar.gz.part-1', 'b.tgz', 'd.json'):
    (tmp_path / name).write_bytes(b'x')
  assert found.packed(tmp_path) == ['a.tar.gz', 'b.tgz']
