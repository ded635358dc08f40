"""`jaxret search`: lines, JSON and a page; what is wrong in one line."""
import json

import pytest

import jaxret
from jaxret import cli
from jaxret.indexing import hits
from jaxret.verbs import search
from tests import tiny_index

tiny_index.lancedb()


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  path = tmp_path_factory.mktemp('search')
  tiny_index.folder(path / 'm')
  tiny_index.picture(path / 'm' / 'new\nline.png', 9)
  jaxret.index(path / 'm', tiny_index.CLIP, path / 'i', window=2,
               show_progress=False)
  return path / 'i'


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
  """No test writes to the user's own."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def run(capsys, *argv):
  code = cli.main(['search', *map(str, argv)])
  shown = capsys.readouterr()
  return code, shown.out, shown.err


def test_lines_and_json_are_what_the_library_finds(capsys, index, tmp_path):
  want = jaxret.open_index(index).search('a dog', k=20)
  code, said, _ = run(capsys, index, 'a dog', f'--html={tmp_path / "o.html"}')
  lines = said.splitlines()
  assert code == 0 and len(lines) == len(want) == 8
  for number, (line, hit) in enumerate(zip(lines, want), 1):
    assert line.split()[:2] == [str(number), f'{hit.score:.4f}']
    assert hit.path.replace('\n', '\\n') in line
  assert (tmp_path / 'o.html').read_text().count('<li>') == 8
  code, said, _ = run(capsys, index, '--text=a dog', '-k', 2, '--json')
  assert json.loads(said) == {'query': {'text': 'a dog'}, 'hits': [
      hit.to_json() for hit in want[:2]]}


def test_media_and_filters(capsys, index):
  clip = index.parent / 'm' / 'trip' / 'clip.mp4'
  code, said, _ = run(capsys, index, f'--image={index.parent / "m" / "a.png"}',
                      '-k', 1, '--json')
  assert json.loads(said)['hits'][0]['path'] == 'a.png'
  code, said, _ = run(capsys, index, f'--video={clip}', '--kind=video', '-k', 9)
  assert code == 0 and len(said.splitlines()) == 3
  assert all('trip/clip.mp4' in line for line in said.splitlines())
  code, said, _ = run(capsys, index, 'a', '--folder=trip', '--kind=image')
  assert code == 0 and len(said.splitlines()) == 1


def test_what_is_wrong_is_one_line(capsys, index, tmp_path):
  for argv, said in (
      ([index], 'got no query'), ([index, 'a', '--text=b'], 'two texts'),
      ([index, '  '], 'the text is empty'), ([index, 'a', '-k', 0], 'k is 0'),
      ([tmp_path, 'a'], 'no index is there'),
      ([index, 'a', '--image=none.png'], 'the query: got text, image'),
      ([index, '--image=none.png'], 'none.png'),
      ([index, 'a', '--kind=sound'], 'invalid choice'),
      ([index, 'a', '--folder=no'], 'nothing in the index has folder no'),
      ([index, 'a', '--html=/proc/none/x'], 'it cannot be written'),
      ([index, 'a', '--rerank=./none'], 'no such directory')):
    code, shown, error = run(capsys, *argv)
    assert (code, shown) == (1, ''), argv
    assert said in error.strip().splitlines()[-1], argv


def test_columns_stand_below_each_other():
  lines = list(search.table([
      hits.Hit('a.mp4', 'video', 0.5, 61.5, 75.0, 99.0, rerank=0.25),
      hits.Hit('b\x1b[31m.png', 'image', -0.25, caption='a  dog\n' * 20,
               rerank=0.125)]))
  assert lines[0] == '1   0.5000  0.2500  1:01.5-1:15.0  a.mp4'
  assert lines[1].startswith(
      '2  -0.2500  0.1250                 b\\x1b[31m.png  a dog a dog')
  assert len(lines[1]) < 120
