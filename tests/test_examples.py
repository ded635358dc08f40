"""What README, docs and examples say to type runs, and does what they say."""
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import jaxret
from jaxret import cli, main
from tests import numbered_videos, snippets, stand_ins, tiny_index

NOTEBOOK = snippets.ROOT / 'examples' / 'search.ipynb'
# Verbs that take long, whatever stands in for what they name.
LONG = 'run', 'serve', 'claims'
# What tests of their own try: buckets, compiling for slices.
ELSEWHERE = 's3://', '--config.task=plan'
# Configs whose runs are short on the stand-ins as they are typed.
SHORT = ('configs/embedders.py', 'configs/blim.py:folder_qwen3vl')
PAGES = {('launch' if page.parent.name == 'launch' else page.stem): page
         for page in snippets.PAGES}
# What must be printed by the examples of a page, besides running.
PRINTED = {'README': ('2 rows', 'a.png', 'b.mp4 0.0'),
           'search': ('2 rows', 'a.png None', 'b.mp4 0.0'),
           'mteb': ('LocalAny2AnyRetrievalt2i  test  default  ',)}


def is_run(command):
  """Whether it is typed here; else its flags are understood, test_docs.py."""
  program, *rest = command.words
  if any(word.startswith(ELSEWHERE) or '=s3://' in word for word in rest):
    return False
  if program == 'jaxret' and rest[0] not in LONG:
    return True
  configs = [word.partition('=')[2] for word in rest
             if word.startswith('--config=')]
  return '--help' in rest or bool(configs) and configs[0] in SHORT


def examples(page):
  """[Block of Python or Command that is run] of a page, in order."""
  found = []
  for block in snippets.blocks(page):
    if block.language == 'python':
      found.append(block)
    found += [command for command in snippets.commands(page)
              if command.block == block and is_run(command)]
  return found


def typed(command, monkeypatch):
  """Runs a command in this process."""
  if command.fed:
    given = subprocess.run(['bash', '-c', command.fed.strip().rstrip('|')],
                           capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(sys, 'stdin', io.StringIO(given))
  program, *rest = command.words
  assert (cli.main(rest) if program == 'jaxret' else
          main.main(['jaxret', *rest[2:]])) == 0, command


@pytest.fixture(scope='module')
def stood(tmp_path_factory, one_device):
  """(root, cache of the hub) of the stand-ins, made once."""
  root = tmp_path_factory.mktemp('stand_ins')
  cache, unite = stand_ins.models(root)
  stand_ins.data_sets(cache)
  stand_ins.workdirs(root, unite, cache)
  return root, cache


@pytest.fixture
def desk(stood, tmp_path, monkeypatch):
  """Where the examples of a page are typed."""
  root, cache = stood
  stand_ins.environment(monkeypatch, cache)
  [said] = [block.text for block in snippets.blocks(PAGES['data'])
            if block.language == 'json']
  stand_ins.media(tmp_path, json.loads(said))
  (tmp_path / 'workdirs').mkdir()
  for run in (root / 'workdirs').iterdir():
    (tmp_path / 'workdirs' / run.name).symlink_to(run)
  (tmp_path / 'WORKDIR').symlink_to(root / 'WORKDIR')
  monkeypatch.chdir(tmp_path)
  return tmp_path


def prepared(name, monkeypatch):
  """What a page needs besides: its own libraries, a hub, a task of mteb."""
  if name in ('README', 'search'):
    tiny_index.lancedb()
  if name == 'export':
    import huggingface_hub

    from tests.exporting import test_export
    monkeypatch.setattr(huggingface_hub, 'HfApi', test_export.Api)
  if name == 'mteb':
    mteb = pytest.importorskip('mteb', reason='of the extra ecosystem')
    from tests import mteb_tasks
    monkeypatch.setattr(mteb, 'get_task', lambda name: mteb_tasks.task(
        'Any2AnyRetrieval', ('text',), ('image',)))
    monkeypatch.setattr(  # of mteb.evaluate, made when it was imported
        sys.modules['mteb.evaluate']._DEFAULT_CACHE, 'cache_path',
        pathlib.Path('mteb-default').absolute())
  if name in ('mteb', 'vectors'):
    cli.main(['export', 'workdirs/unite', '--out=my-unite'])


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    name for name, page in PAGES.items() if examples(page)])
def test_examples_run_as_they_are_printed(name, desk, monkeypatch, capsys):
  prepared(name, monkeypatch)
  known = {'jaxret': jaxret, **stand_ins.GIVEN.get(name, {})}
  for one in examples(PAGES[name]):
    if isinstance(one, snippets.Command):
      typed(one, monkeypatch)
    else:
      exec(compile(stand_ins.smaller(one.text), str(one), 'exec'), known)
  printed = capsys.readouterr().out
  assert [text for text in PRINTED.get(name, ()) if text not in printed] == []


def test_the_search_example_is_short():
  shell, python = (next(
      block for block in snippets.blocks(PAGES['search'])
      if block.language == language) for language in ('', 'python'))
  assert len(shell.text.splitlines()) <= 4
  assert len(python.text.splitlines()) <= 5


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Where the notebook runs, and nothing of the user's own."""
  tiny_index.lancedb()
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  (tmp_path / 'clips').mkdir()
  (tmp_path / 'clips' / 'b.mp4').write_bytes(numbered_videos.video(30))
  return tmp_path


def cells():
  return [cell for cell in json.loads(NOTEBOOK.read_text())['cells']
          if cell['cell_type'] == 'code']


def test_the_notebook_was_run_from_top_to_bottom():
  assert [cell['execution_count'] for cell in cells()] == [
      *range(1, len(cells()) + 1)]
  outputs = [one for cell in cells() for one in cell['outputs']]
  assert all(one['output_type'] in ('stream', 'display_data')
             for one in outputs)
  assert sum('image/png' in one.get('data', {}) for one in outputs) == 2
  assert len(NOTEBOOK.read_bytes()) < 200_000


@pytest.mark.slow
def test_the_notebook_runs(folder, monkeypatch, capsys):
  """On two clips and a random model, where `make demo` has its own."""
  import matplotlib
  matplotlib.use('Agg')
  corpus = folder / 'workdirs' / 'demo' / 'corpus'
  corpus.mkdir(parents=True)
  os.symlink(tiny_index.CLIP, corpus.parent / 'unite')
  names = 'a.mp4', 'b.mp4'
  for name in names:
    shutil.copy('clips/b.mp4', corpus / name)
  (corpus / 'captions_test.json').write_text(json.dumps([
      {'video': name, 'caption': f'a clip, {name}'} for name in names]))
  known = {}
  for cell in cells():
    exec(''.join(cell['source']), known)
  assert known['scores'].shape == (2, 2) and len(known['hits']) == 2
  assert 'R@1 ' in capsys.readouterr().out
  assert len(known['plt'].get_fignums()) == 2
  known['plt'].close('all')
  assert 'IPython' not in sys.modules  # nothing that a script has not
