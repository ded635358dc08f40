"""Members of archives, read in place; what a stranger's archive holds."""
import io
import pathlib
import struct
import tarfile
import unicodedata
import zipfile

import pytest

from jaxret.data import clips, containers, images, media, sources, types
from jaxret.data.containers import archives
from tests import numbered_videos, tables


def zipped(path, members, **options):
  with zipfile.ZipFile(path, 'w', **options) as file:
    for name, data in members.items():
      file.writestr(name, data)
  return path


def tarred(path, members, mode='w'):
  with tarfile.open(path, mode) as file:
    for name, data in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      file.addfile(info, io.BytesIO(data))
  return path


@pytest.fixture(params=['zip', 'deflated', 'tar', 'parts', 'tar.gz', 'tgz',
                        'tar.bz2', 'tar.xz', 'gz parts'])
def archive(request, tmp_path, monkeypatch):
  """An archive of a/1.png (grey 7) and ./2.png (grey 9), in every form."""
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  members = {'a/1.png': tables.png(7), '2.png': tables.png(9)}
  if request.param in ('zip', 'deflated'):
    return zipped(tmp_path / 'x.zip', members, compression=(
        zipfile.ZIP_DEFLATED if request.param == 'deflated'
        else zipfile.ZIP_STORED))
  ending = {'parts': 'tar', 'gz parts': 'tar.gz'}.get(
      request.param, request.param)
  mode = ending.replace('tgz', 'tar.gz').removeprefix('tar').replace('.', ':')
  path = tarred(tmp_path / f'x.{ending}', members, f'w{mode}')
  if request.param.endswith('parts'):
    data = path.read_bytes()
    path.unlink()
    a, b = len(data) // 4, len(data) // 2
    for name, part in (('aa', data[:a]), ('ab', data[a:b]), ('ac', data[b:])):
      path.with_name(f'{path.name}.part-{name}').write_bytes(part)
  return path


def test_members_are_the_files_that_were_put_in(archive):
  assert archives.members(archive) == ('a/1.png', '2.png')
  for name, grey in (('a/1.png', 7), ('2.png', 9)):
    path = f'{archive}/{name}'
    assert archives.read(archive, name) == tables.png(grey)
    assert images.read(path).tolist() == [[[grey] * 3] * 8] * 8
    assert images.read(path, size_only=True) == (8, 8)
    assert sources.is_file(path) and sources.head(path) == tables.png(grey)[:64]
  assert not sources.is_file(f'{archive}/1.png')
  with pytest.raises(sources.MediaError, match='no such file in'):
    images.read(f'{archive}/1.png')


def test_a_video_inside_gives_the_frames_of_the_video(tmp_path):
  data = numbered_videos.video(30)
  path = f'{zipped(tmp_path / "v.zip", {"clips/x.mp4": data})}/clips/x.mp4'
  assert numbered_videos.numbers(path, [0, 13, 29]) == [0, 13, 29]
  assert media.probe(path) == media.probe(data)
  clip = clips.Clip(path, 0.4, 0.8)
  assert numbered_videos.numbers(clip, [0, 9]) == [10, 19]


def test_a_file_or_folder_of_that_name_comes_first(tmp_path):
  zipped(tmp_path / 'b.zip', {'1.png': tables.png(1)})
  folder = tmp_path / 'a.zip'
  folder.mkdir()
  (folder / '1.png').write_bytes(tables.png(5))
  assert images.read(folder / '1.png')[0, 0, 0] == 5
  assert containers.located(folder / '1.png') is None
  assert containers.located(tmp_path / 'b.zip') is None
  assert containers.located(tmp_path / 'no.zip' / '1.png') is None


def test_accents_are_found_however_they_are_composed(tmp_path):
  name = 'é.png'
  made = zipped(tmp_path / 'x.zip', {
      unicodedata.normalize('NFD', name): tables.png(3)})
  assert images.read(f'{made}/{name}')[0, 0, 0] == 3


def test_an_archive_that_changes_is_read_anew(tmp_path):
  path = zipped(tmp_path / 'x.zip', {'1.png': tables.png(1)})
  assert images.read(f'{path}/1.png')[0, 0, 0] == 1
  zipped(path, {'0.png': tables.png(4), '1.png': tables.png(2)})
  assert images.read(f'{path}/1.png')[0, 0, 0] == 2


def test_names_that_lead_elsewhere_are_names_in_the_archive(tmp_path):
  """Zip slip: nothing is unpacked, so that there is nowhere to slip to."""
  secret = tmp_path / 'secret.png'
  secret.write_bytes(tables.png(200))
  (tmp_path / 'own').mkdir()
  path = zipped(tmp_path / 'own' / 'x.zip', {
      '../secret.png': tables.png(1), '/etc/passwd': tables.png(2)})
  assert images.read(f'{path}/../secret.png')[0, 0, 0] == 1
  assert images.read(f'{path}//etc/passwd')[0, 0, 0] == 2
  assert not (tmp_path / 'own' / 'secret.png').exists()
  assert sorted(file.name for file in tmp_path.rglob('*')) == [
      'own', 'secret.png', 'x.zip']


def test_links_and_devices_are_no_members(tmp_path):
  secret = tmp_path / 'secret.png'
  secret.write_bytes(tables.png(200))
  path = tmp_path / 'x.tar'
  with tarfile.open(path, 'w') as file:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
                 tarfile.FIFOTYPE):
      info = tarfile.TarInfo(f'{kind.decode()}.png')
      info.type, info.linkname = kind, str(secret)
      file.addfile(info)
  assert archives.members(path) == ()
  packed = tmp_path / 'x.zip'
  with zipfile.ZipFile(packed, 'w') as file:
    info = zipfile.ZipInfo('link.png')
    info.create_system, info.external_attr = 3, 0o120777 << 16
    file.writestr(info, str(secret))
  assert archives.members(packed) == ()


def damaged(path):
  data = bytearray(path.read_bytes())
  data[:8] = b'\xff' * 8  # of the first member's header
  return bytes(data)


@pytest.mark.parametrize('spoil', [damaged, lambda p: p.read_bytes()[:40],
                                   lambda p: b'', lambda p: b'GIF89a' * 40])
def test_a_damaged_archive_is_said_in_one_line(archive, spoil):
  part = archives.parts(archive)[0]
  pathlib.Path(part).write_bytes(spoil(pathlib.Path(part)))
  with pytest.raises(sources.MediaError) as caught:
    images.read(f'{archive}/a/1.png')
  assert '\n' not in str(caught.value) and 'a/1.png' in str(caught.value)


def test_a_member_that_says_it_is_huge_is_not_read(tmp_path, monkeypatch):
  path = zipped(tmp_path / 'bomb.zip', {'1.png': b'\0' * 5000},
                compression=zipfile.ZIP_DEFLATED)
  monkeypatch.setattr(archives, 'MOST_BYTES', 4999)
  with pytest.raises(sources.MediaError, match='5000 bytes in .*at most 4999'):
    images.read(f'{path}/1.png')


def test_what_is_compressed_as_a_whole_is_unpacked_once(
    tmp_path, monkeypatch, caplog):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  path = tarred(tmp_path / 'x.tar.gz', {'1.png': tables.png(5)}, 'w:gz')
  with caplog.at_level('INFO', 'absl'):
    for _ in range(2):
      archives._open.cache_clear()
      assert images.read(f'{path}/1.png')[0, 0, 0] == 5
  assert [record.getMessage().partition(': ')[0] for record in caplog.records
          ] == [f'{path} is compressed as a whole']
  assert [file.suffix for file in (
      tmp_path / 'cache' / 'archives').iterdir()] == ['.tar']


def test_what_would_fill_a_disk_is_not_unpacked(tmp_path, monkeypatch):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  bomb = tarred(tmp_path / 'bomb.tar.gz', {'1.png': b'\0' * (8 << 20)}, 'w:gz')
  with pytest.raises(sources.MediaError, match='more than 50 times as large'):
    images.read(f'{bomb}/1.png')
  path = tarred(tmp_path / 'x.tar.gz', {'1.png': tables.png(5)}, 'w:gz')
  (tmp_path / 'cache' / 'archives').rmdir()
  (tmp_path / 'cache' / 'archives').write_bytes(b'')  # where nothing fits
  with pytest.raises(sources.MediaError, match='1.png: .*cannot be'):
    images.read(f'{path}/1.png')


def test_an_encrypted_member_is_said(tmp_path):
  path = zipped(tmp_path / 'x.zip', {'1.png': tables.png(1)})
  data = bytearray(path.read_bytes())
  for start, offset in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
    at = data.find(start) + offset
    data[at:at + 2] = struct.pack('<H', 1)
  path.write_bytes(bytes(data))
  with pytest.raises(sources.MediaError, match='encrypted'):
    images.read(f'{path}/1.png')


def test_frames_in_an_archive_are_one_video(tmp_path):
  path = zipped(tmp_path / 'x.zip', {
      f'v/{i}.png': tables.png(10 * i) for i in range(3)})
  frames = tuple(f'{path}/v/{i}.png' for i in range(3))
  shown = media.load_frames(types.Item('v', video=frames), 2, 8)
  assert shown[:, 0, 0, 0].tolist() == [0, 10]  # of 0 to n - 2
  with pytest.raises(sources.MediaError, match='no such file'):
    media.as_videos((frames[0], f'{path}/v/9.png'), 'v')
