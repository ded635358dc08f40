"""`jaxret index`: what it prints, and what is wrong in one line."""
import json

import pytest

import jaxret
from jaxret import cli
from tests import tiny_index

tiny_index.lancedb()


def run(capsys, *argv):
  code = cli.main(['index', *map(str, argv)])
  shown = capsys.readouterr()
  return code, shown.out, shown.err


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
  """No test writes to the user's own."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def test_a_folder_is_indexed_and_kept(capsys, tmp_path, own_cache):
  folder, out = tiny_index.folder(tmp_path / 'm'), tmp_path / 'i'
  argv = folder, f'--model={tiny_index.CLIP}', f'--out={out}', '--window=2'
  code, said, _ = run(capsys, *argv)
  assert code == 0
  assert f'{out}: 7 rows: 5 files added, 0 changed, 0 as they were' in said
  assert '3 skipped' in said and said.endswith(
      f"search it: jaxret search {out} 'a dog in the snow', or jaxret serve "
      f'{out}\n')
  code, said, _ = run(capsys, *argv, '--json')
  done = json.loads(said)
  assert (done['rows'], done['added'], done['unchanged']) == (7, 0, 5)
  assert {one['path'] for one in done['skipped']} == {
      'broken.mp4', 'empty.png', 'table.csv'}


def test_what_is_wrong_is_one_line(capsys, tmp_path, monkeypatch, own_cache):
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  out = f'--out={tmp_path / "i"}'
  model = f'--model={tiny_index.CLIP}'
  monkeypatch.chdir(tmp_path)
  for argv, said in (
      ([tmp_path / 'm', out], '--model'),
      ([tmp_path / 'none', model, out], 'no such folder'),
      ([tmp_path / 'm', '--model=./none', out], 'no such directory'),
      ([tmp_path / 'm', model, out, '--window=x'], 'invalid float'),
      ([tmp_path / 'm', model, out, '--window=0'], 'window is 0 s'),
      ([tmp_path / 'm', model, out, '--recipe=none'], 'recipe'),
      ([tmp_path / 'm', model, out, '--batch_size=0'], 'batch_size is 0'),
      ([tmp_path / 'm', model, '--out=ftp://bucket/i'], 'an index lies in')):
    code, shown, error = run(capsys, *argv)
    assert (code, shown) == (1, '')
    assert said in error and len(error.strip().splitlines()) == 1
  assert not (tmp_path / 'ftp:').exists()


def test_interrupted_it_says_what_is_kept(capsys, tmp_path, monkeypatch):
  def stop(*args, **kwargs):
    raise KeyboardInterrupt
  monkeypatch.setattr(jaxret, 'index', stop)
  code, _, error = run(capsys, tmp_path, '--model=m', f'--out={tmp_path / "i"}')
  assert code == 130 and error.startswith('jaxret: interrupted; the blocks')


def test_help(capsys):
  assert cli.main(['index', '--help']) == 0
  assert 'jaxret index FOLDER --model=MODEL' in capsys.readouterr().out
