"""hf://owner/name: the cache of huggingface_hub, and a hub on this machine."""
import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest

from jaxret.data import hub
from tests import hub_caches, tables

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
  hub_caches.use(monkeypatch, tmp_path)
  yield tmp_path
  hub._snapshot.cache_clear()


@pytest.mark.parametrize('name, inside', [
    ('hf://me/pets', ''), ('hf://datasets/me/pets', ''),
    ('hf:/me/pets', ''), ('hf://me/pets@main', ''),
    (f'hf://me/pets@{hub_caches.COMMIT}', ''), ('hf://me/pets/data', 'data'),
    ('hf://me/pets@main/data', 'data')])
def test_a_name_is_its_snapshot_in_the_cache(cache, name, inside):
  made = hub_caches.snapshot(cache, 'me/pets', {'data/a.txt': b'a'})
  path = hub.local(name)
  assert path == made / inside
  assert hub.is_name(name) and not hub.is_name(path)
  assert hub.origin(path) == ('me/pets', hub_caches.COMMIT)
  assert hub.local(path) == path


def test_revisions_are_kept_apart(cache):
  new = hub_caches.snapshot(cache, 'me/pets', {'a.txt': b'new'})
  old = hub_caches.snapshot(cache, 'me/pets', {'a.txt': b'old'},
                            hub_caches.OLDER, 'v1')
  assert hub.local('hf://me/pets') == new
  assert hub.local('hf://me/pets@v1') == old


def test_a_large_file_is_known_by_its_blob(cache, tmp_path):
  made = hub_caches.snapshot(cache, 'me/pets', {'a.txt': b'some'})
  assert hub.known_sha256(made / 'a.txt') == hashlib.sha256(b'some').hexdigest()
  (tmp_path / 'b.txt').write_bytes(b'some')
  assert hub.known_sha256(tmp_path / 'b.txt') is None
  assert hub.origin(tmp_path) is None


@pytest.mark.parametrize('name, said', [
    ('hf://pets', 'names no data set of the hub'), ('hf://', 'names no data'),
    ('hf://me/pets@', 'names no data'),
    ('hf://me/cats', r'hf://me/cats: the hub gave nothing .*hf download'),
    ('hf://me/pets@v9', r'hf://me/pets@v9: the hub gave nothing'),
    ('hf://me/pets/../../x', 'leads out of the repository')])
def test_what_is_no_data_set_is_said_in_one_line(cache, name, said):
  hub_caches.snapshot(cache, 'me/pets', {'a.txt': b'a'})
  with pytest.raises(ValueError, match=said) as error:
    hub.local(name)
  assert '\n' not in str(error.value)


class Hub(http.server.BaseHTTPRequestHandler):
  """What huggingface_hub asks of one, for some files.

  asked: [(path, token)]; given: {file: how many bytes of it}.
  """
  files, asked, given, commit = {}, [], {}, hub_caches.COMMIT

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    path = self.path.partition('?')[0]
    type(self).asked.append((path, self.headers.get('Authorization')))
    name = path.partition(f'/resolve/{self.commit}/')[2]
    if path == '/api/datasets/me/pets' or path.startswith(
        '/api/datasets/me/pets/revision'):
      self.answer(json.dumps({
          '_id': '1', 'id': 'me/pets', 'sha': self.commit,
          'siblings': [{'rfilename': one, 'size': len(data), 'lfs': {
              'sha256': hashlib.sha256(data).hexdigest(), 'size': len(data),
              'pointerSize': 1}} for one, data in self.files.items()]}
                             ).encode())
    elif path.startswith('/api/datasets/me/pets/tree'):
      self.answer(json.dumps([
          {'type': 'file', 'path': one, 'size': len(data), 'oid': '1' * 40}
          for one, data in self.files.items()]).encode())
    elif name in self.files:
      data, asked = self.files[name], self.headers.get('Range', '')
      headers = {'ETag': hashlib.sha256(data).hexdigest(),
                 'X-Repo-Commit': self.commit}
      if asked.startswith('bytes='):
        first, last = asked.removeprefix('bytes=').split('-')
        part = data[int(first):int(last) + 1 if last else None]
        headers['Content-Range'] = f'bytes {asked[6:]}/{len(data)}'
      else:
        part = data
      if self.command == 'GET':
        self.given[name] = self.given.get(name, 0) + len(part)
      self.answer(part, headers, 206 if asked else 200)
    else:
      self.answer(b'{}', {'X-Error-Code': 'RepoNotFound'}, 404)

  def answer(self, data, headers=None, status=200):
    self.send_response(status)
    for key, value in {'Content-Length': len(data), **(headers or {})}.items():
      self.send_header(key, str(value))
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(data)

  def log_message(self, *_):
    pass


@contextlib.contextmanager
def served(tmp_path, files):
  """Gives (code, **environment) -> the process of it, asking a Hub of files."""
  Hub.files = files
  Hub.asked.clear()
  Hub.given.clear()
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    environment = {
        **os.environ, 'HF_HOME': str(tmp_path), 'HF_TOKEN': 'hf_of_mine',
        'HF_ENDPOINT': f'http://127.0.0.1:{server.server_address[1]}',
        'JAXRET_CACHE': str(tmp_path / 'cache'),
        'PYTHONPATH': str(ROOT), 'HF_HUB_DISABLE_XET': '1'}
    for name in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE', 'HF_HUB_CACHE'):
      environment.pop(name, None)
    yield lambda code, **more: subprocess.run(
        [sys.executable, '-c', code], env=environment | more,
        capture_output=True, text=True)
    server.shutdown()
    thread.join()


STREAM = """
import json, sys
from jaxret.data import hub, images, sets
from ml_collections import ConfigDict
root = 'hf+stream://me/pets/data'
split = sets.load(ConfigDict({'name': 'folder', 'root': root}), 'test')
pixels = [images.read(split.videos[i].image)[0, 0, 0] for i in (4, 5, 4)]
from jaxret import protocols
print(json.dumps({
    'texts': [text.text for text in split.texts],
    'pixels': list(map(int, pixels)),
    'origin': hub.origin(split.files[0]), 'sha256': protocols._file(
        hub.local(root), split.files[0])['sha256']}))
"""


@pytest.mark.slow
def test_parquet_is_read_by_ranges(tmp_path):
  """Two row groups of six and another split's file stay where they are."""
  rng = np.random.default_rng(0)
  def picture(i):
    pixels = rng.integers(0, 256, (480, 480, 3), np.uint8)
    pixels[0, 0] = i
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()
  data = {}
  for split in ('test', 'train'):
    path = tables.parquet(
        tmp_path / f'{split}.parquet', 2,
        caption=[f'text {i}' for i in range(6)],
        image=(tables.MEDIUM, [tables.medium(picture(i), f'{i}.png')
                               for i in range(6)]))
    data[f'data/{split}-0.parquet'] = path.read_bytes()
  with served(tmp_path, {**data, 'README.md': b'# Pets'}) as process:
    done = process(STREAM)
    given = dict(Hub.given)
    offline = process(STREAM, HF_HUB_OFFLINE='1')
  found = json.loads(done.stdout or 'null')
  assert found is not None, done.stderr
  whole = data['data/test-0.parquet']
  assert found == {
      'texts': [f'text {i}' for i in range(6)], 'pixels': [4, 5, 4],
      'origin': ['me/pets', hub_caches.COMMIT],
      'sha256': hashlib.sha256(whole).hexdigest()}
  assert len(whole) / 3 < given['data/test-0.parquet'] < len(whole) / 2
  assert 'data/train-0.parquet' not in given and given['README.md'] == 6
  assert 'did not say what it holds' in offline.stderr


@pytest.mark.slow
def test_a_hub_is_asked_as_its_library_asks_it(tmp_path):
  """Token, patterns and endpoint; the second time nothing is fetched."""
  with served(tmp_path, {'train.jsonl': b'{"a": 1}\n', 'big.zip': b'zip'}
              ) as process:
    def local(name, **more):
      return process('from jaxret.data import hub; '
                     f'print(hub.local({name!r}, ("*.jsonl",)))', **more)
    found = local('hf://me/pets')
    asked = list(Hub.asked)
    Hub.asked.clear()
    again = local('hf://me/pets', HF_HUB_OFFLINE='1')
    unknown = local('hf://me/cats')
  path = pathlib.Path(found.stdout.strip())
  assert path.name == hub_caches.COMMIT, found.stderr
  assert [one.name for one in path.iterdir()] == ['train.jsonl']
  assert (path / 'train.jsonl').read_bytes() == Hub.files['train.jsonl']
  assert hub.origin(path) == ('me/pets', hub_caches.COMMIT)
  assert all(token == 'Bearer hf_of_mine' for one, token in asked
             if 'me/pets' in one)
  # Offline nothing is asked of it.
  assert not any('me/pets' in one for one, _ in Hub.asked)
  assert not any('big.zip' in one for one, _ in asked)
  assert again.stdout == found.stdout
  assert 'hf://me/cats: the hub gave nothing' in unknown.stderr
