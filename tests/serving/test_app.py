"""The server as a client sees it: searches, files, and what gets nothing."""
import concurrent.futures
import json
import tempfile

import numpy as np
import pytest

from tests import tiny_index, tiny_rerankers, tiny_serving

app = tiny_serving.part('app')


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  return tiny_serving.made(tmp_path_factory.mktemp('app'))


@pytest.fixture(scope='module')
def client(index):
  with tiny_serving.client(app.create(index, most_bytes=200_000)) as client:
    yield client


def found(client, **asked):
  answer = client.get('/api/search', params=asked)
  assert answer.status_code == 200, answer.text
  return answer.json()['hits']


def test_hits_are_those_of_the_library(client, index):
  for asked, filters in (
      ({}, {}), ({'k': 3}, {'k': 3}), ({'kind': 'video'}, {'kind': 'video'}),
      ({'folder': 'trip', 'before': 4e9}, {'folder': 'trip'})):
    hits = found(client, text='a dog', **asked)
    want = index.search('a dog', **{'k': 40} | filters)
    assert [(hit['path'], hit.get('start_s')) for hit in hits] == [
        (hit.path, hit.start_s) for hit in want]
    np.testing.assert_allclose([hit['score'] for hit in hits],
                               [hit.score for hit in want], atol=1e-6)
  text, = (hit for hit in found(client, text='a dog') if hit['kind'] == 'text')
  assert (text['text'], text['gone']) == ('a dog', False)


def test_by_an_upload(client, index, tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  media = index.path.parent / 'media'
  for name, best in (('a.png', 'a.png'), ('trip/clip.mp4', 'trip/clip.mp4')):
    want = index.search({'video' if name.endswith('4') else 'image':
                         str(media / name)}, 5)
    answer = client.post('/api/search?k=5',
                         content=(media / name).read_bytes())
    hits = answer.json()['hits']
    assert hits[0]['path'] == best
    assert [hit['path'] for hit in hits] == [hit.path for hit in want]
  for content, status, said in (
      (b'', 400, 'is empty'), (b'x' * 99, 400, 'no image or video'),
      (b'x' * 200_001, 413, 'larger than 200,000 bytes')):
    answer = client.post('/api/search', content=content)
    assert answer.status_code == status and said in answer.json()['error']
  both = client.post('/api/search?text=a',
                     content=(media / 'a.png').read_bytes())
  assert both.status_code == 400 and str(tmp_path) not in both.text
  assert not list(tmp_path.iterdir())


def test_similar(client, index):
  first = found(client, text='a dog', kind='image')[0]
  hits = found(client, like=first['id'], k=3)
  vector = index.vector(next(hit for hit in index.search('a dog', 40)
                             if hit.path == first['path']))
  want = [hit for hit in index.search(vector, 4)
          if hit.path != first['path']][:3]
  assert [hit['path'] for hit in hits] == [hit.path for hit in want]
  assert client.get('/api/search', params={
      'like': first['id'], 'text': 'a'}).status_code == 400


def test_files_pictures_and_texts(client, index):
  media = index.path.parent / 'media'
  for hit in found(client, text='a dog'):
    whole = client.get(f'/media/{hit["id"]}')
    picture = client.get(f'/thumb/{hit["id"]}?size=1280')
    assert whole.content == (media / hit['path']).read_bytes()
    if hit['kind'] == 'text':
      assert whole.headers['content-type'].startswith('text/plain')
      assert picture.status_code == 404
      continue
    assert picture.content[:3] == b'\xff\xd8\xff'
    part = client.get(f'/media/{hit["id"]}', headers={'range': 'bytes=3-12'})
    assert (part.status_code, part.content) == (206, whole.content[3:13])
    assert client.head(f'/media/{hit["id"]}').headers['content-length'] == (
        str(len(whole.content)))
    assert client.get(f'/thumb/{hit["id"]}?size=1280', headers={
        'if-none-match': picture.headers['etag']}).status_code == 304
    assert client.get(f'/thumb/{hit["id"]}?size=9999').status_code == 400


def test_what_is_wrong_is_one_line(client, index):
  for asked, status, said in (
      ('', 400, 'got no query'), ('?text=a&k=x', 400, 'k: got'),
      ('?text=a&folder=no', 400, 'nothing in the index has folder no'),
      ('?text=a&rerank=true', 400, 'serve with --rerank'),
      ('?like=1-000000000000', 404, 'no such row'),
      ('?like=../x', 404, 'no such row'), ('?path=/etc', 400, 'unknown')):
    answer = client.get(f'/api/search{asked}')
    assert answer.status_code == status and said in answer.json()['error']
    assert str(index.path) not in answer.text
  assert client.delete('/api/search').status_code == 405
  assert client.post('/media/0-000000000000').status_code == 405
  assert client.get('/none').json() == {'error': 'Not Found'}


def test_the_page_and_the_api_as_described(client, index):
  page = client.get('/')
  assert f'{len(index)} rows' in page.text
  for part in ('page.css', 'page.js', 'icon.svg'):
    assert f'/static/{part}' in page.text
    assert client.get(f'/static/{part}').status_code == 200
  for text in (page.text, client.get('/static/page.js').text,
               client.get('/static/page.css').text):
    assert '//' not in text.replace('// ', '').replace('http://www.w3', '')
    assert 'style="' not in text and 'onclick="' not in text
  described = client.get('/openapi.json').json()
  for path, verbs in described['paths'].items():
    for verb in verbs:
      answer = client.request(verb, path.replace('{id}', '0-000000000000'))
      assert answer.status_code not in (405, 500)
      assert verb == 'head' or answer.json().keys() <= {
          'error', 'rows', 'model', 'rerank', 'likelihood'}
  hit = found(client, text='a', k=1)[0]
  known = described['components']['schemas']['Hit']['properties']
  assert hit.keys() <= known.keys()
  assert json.dumps(described).count('#/components/schemas/') > 10


def test_concurrent_queries_are_those_alone(client):
  texts = [f'{word} {other}' for word in ('a', 'dog', 'snow', 'up')
           for other in ('cat', 'two', 'the', 'in')]
  alone = [found(client, text=text) for text in texts]
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    at_once = list(pool.map(lambda text: found(client, text=text), texts))
  for one, other in zip(alone, at_once, strict=True):
    assert [hit['id'] for hit in one] == [hit['id'] for hit in other]
    np.testing.assert_allclose([hit['score'] for hit in one],
                               [hit['score'] for hit in other], atol=1e-6)


@pytest.mark.slow
def test_rerank(index):
  """By a reranker, with both scores, as the library does."""
  model = tiny_rerankers.qwen3_vl()
  want = index.search('a dog', 3, kind='image', rerank=model)
  client = tiny_serving.client(app.create(index, rerank=model, candidates=5))
  asked = {'text': 'a dog', 'k': 3, 'kind': 'image'}
  hits = found(client, rerank='true', **asked)
  assert [hit['path'] for hit in hits] == [hit.path for hit in want]
  for score in ('score', 'rerank'):
    np.testing.assert_allclose([hit[score] for hit in hits],
                               [getattr(hit, score) for hit in want], atol=1e-5)
  assert 'rerank' not in found(client, **asked)[0]
  assert 'name="rerank"' in client.get('/').text
  # By a hit, and only over what is still there.
  like = found(client, rerank='true', like=hits[0]['id'], kind='image')
  assert {hit['path'] for hit in like} == {hit['path'] for hit in hits[1:]}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(index, 'file_of', lambda hit: None)
    assert not found(client, rerank='true', **asked)


def test_an_index_that_grows_and_files_that_go(tmp_path, monkeypatch):
  from jaxret.serving import service
  monkeypatch.setattr(service, 'REFRESH_S', 0)
  monkeypatch.setattr(service, 'READING_SHARE', 1e9)
  tiny_index.picture(tmp_path / 'media' / 'a.png', 0)
  tiny_index.picture(tmp_path / 'secret.png', 5)
  index = tiny_serving.indexed(tmp_path)
  client = tiny_serving.client(app.create(index))
  old, = found(client, text='a')
  tiny_index.picture(tmp_path / 'media' / 'b.png', 1)
  tiny_serving.indexed(tmp_path)
  assert {hit['path'] for hit in found(client, text='a')} == {'a.png', 'b.png'}
  assert client.get(f'/media/{old["id"]}').status_code == 200
  file = tmp_path / 'media' / 'a.png'
  file.unlink()
  for _ in range(2):  # gone, then a link out of the folder
    hit, = (hit for hit in found(client, text='a') if hit['path'] == 'a.png')
    assert hit['gone']
    for what in ('media', 'thumb'):
      answer = client.get(f'/{what}/{hit["id"]}')
      assert answer.status_code == 404 and 'gone' in answer.json()['error']
    if not file.is_symlink():
      file.symlink_to(tmp_path / 'secret.png')
  (tmp_path / 'media' / 'b.png').rename(tmp_path / 'media' / 'c.png')
  file.unlink()
  tiny_serving.indexed(tmp_path)
  hit, = found(client, text='a')
  assert hit['path'] == 'c.png' and not hit['gone']
  assert client.get(f'/media/{old["id"]}').status_code == 404


def test_deletes_at_the_same_time(tmp_path):
  for number in range(24):
    tiny_index.picture(tmp_path / 'media' / f'{number}.png', number)
  index = tiny_serving.indexed(tmp_path)
  with tiny_serving.client(app.create(index)) as client:
    ids = [hit['id'] for hit in found(client, text='a')]
    def delete():
      for path in (tmp_path / 'media').iterdir():
        path.unlink()
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
      answers = [pool.submit(client.get, f'/{what}/{name}') for name in ids
                 for what in ('media', 'thumb')]
      pool.submit(delete)
      statuses = {answer.result().status_code for answer in answers}
    assert statuses <= {200, 404}
    assert all(hit['gone'] for hit in found(client, text='a'))
    assert client.get(f'/media/{ids[0]}').status_code == 404
