"""Where a result comes from."""
import json
import pathlib
import subprocess
import time

import pytest

import jaxret
from jaxret import provenance

ROOT = pathlib.Path(jaxret.__file__).resolve().parents[1]


def test_what_is_gathered_is_plain_and_whole(tmp_path, monkeypatch):
  monkeypatch.setattr('sys.argv', ['jaxret', 'run', '--config=a b.py'])
  found = provenance.gather(7)
  assert list(found) == ['date', 'command', 'version', 'commit', 'device',
                         'duration_s', 'seed']
  assert found['command'] == "jaxret run '--config=a b.py'"
  assert found['version'] == jaxret.__version__ and found['seed'] == 7
  assert found['duration_s'] is None  # no run is at work
  provenance.write(tmp_path, found)
  assert json.loads((tmp_path / 'provenance.json').read_text()) == found


@pytest.mark.parametrize('program, words', [
    (f'{ROOT}/jaxret/main.py', 'python -m jaxret.main'),
    (f'{ROOT}/jaxret/__main__.py', 'python -m jaxret'),
    ('/somewhere/bin/jaxret', 'jaxret'), ('own/train.py', 'own/train.py')])
def test_a_command_can_be_typed_again(program, words, monkeypatch):
  monkeypatch.setattr('sys.argv', [program, '--config=c.py'])
  assert provenance.command() == f'{words} --config=c.py'


def worked(workdir, seconds):
  """The duration that a process says which works so long on a workdir."""
  with provenance.timed(workdir):
    time.sleep(seconds)
    return provenance.gather(0)['duration_s']


def test_a_run_takes_as_long_as_its_processes(tmp_path, monkeypatch):
  assert 0.2 <= worked(tmp_path, 0.2) < 5
  time.sleep(0.3)
  assert 0.4 <= worked(tmp_path, 0.2) < 5
  before = json.loads((tmp_path / provenance.SPENT).read_text())['seconds']
  with pytest.raises(KeyboardInterrupt), provenance.timed(tmp_path):
    time.sleep(0.2)
    raise KeyboardInterrupt
  assert worked(tmp_path, 0) >= round(before + 0.2, 1)
  monkeypatch.setattr(provenance, 'KEPT_EVERY_S', 0.1)
  with provenance.timed(tmp_path):  # what a kill leaves
    time.sleep(0.3)
    kept = json.loads((tmp_path / provenance.SPENT).read_text())['seconds']
    assert kept > before + 0.3


@pytest.mark.parametrize('name, said', [
    (provenance.SPENT, '{"sec'), (provenance.SPENT, '{"seconds": "x"}'),
    ('config.json', '{}')])
def test_where_it_is_not_known_how_long_others_took(tmp_path, name, said):
  """Damaged, or of a workdir that was begun before there was a count."""
  (tmp_path / name).write_text(said)
  assert worked(tmp_path, 0) is None
  assert worked(tmp_path, 0) is None


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
  """'+' where a file was changed; None where nothing is a checkout."""
  def git(*arguments):
    return subprocess.run(
        ['git', '-C', tmp_path, '-c', 'user.name=a', '-c', 'user.email=a@b',
         *arguments], capture_output=True, text=True, check=True).stdout
  module = tmp_path / 'jaxret' / 'provenance.py'
  module.parent.mkdir()
  module.write_text('one')
  monkeypatch.setattr(provenance, '__file__', str(module))
  assert provenance.commit() is None
  git('init')
  assert provenance.commit() is None  # nothing was committed
  git('add', '.')
  git('commit', '-m', 'first')
  head = git('rev-parse', 'HEAD').strip()[:12]
  assert provenance.commit() == head
  module.write_text('two')
  assert provenance.commit() == f'{head}+'


def test_what_was_written_is_read(tmp_path):
  assert provenance.read(tmp_path) is None
  found = provenance.gather(0)
  provenance.write(tmp_path, found)
  assert provenance.read(tmp_path) == found
  (tmp_path / 'provenance.json').write_text('["no such thing"]')
  assert provenance.read(tmp_path) is None


def test_line_leaves_out_what_is_not_known():
  found = {'date': 'today', 'version': '1', 'commit': None, 'device': '1 x cpu',
           'duration_s': 312.4, 'seed': None}
  assert provenance.line(found) == 'today, jaxret 1, 1 x cpu, 5 min 12 s'
  assert provenance.line({**found, 'duration_s': None}) == (
      'today, jaxret 1, 1 x cpu')
  assert provenance.line({**found, 'commit': 'abc', 'duration_s': 2, 'seed': 0}
                         ) == ('today, jaxret 1, commit abc, 1 x cpu, 2 s, '
                               'seed 0')
