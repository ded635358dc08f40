"""What README, docs and examples say to type runs, and does what they say."""
import json
import os
import pathlib
import re
import shlex
import shutil
import sys

import pytest

from jaxret import cli
from tests import numbered_videos, tiny_index

tiny_index.lancedb()
ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / 'examples' / 'search.ipynb'
PAGES = {'README': (ROOT / 'README.md', '## Your own media'),
         'search': (ROOT / 'docs' / 'search.md', '# Indexing')}
HUB = re.compile(r'(?:openai|google)/[\w.-]+')  # the embedder of an example


def blocks(page):
  """(lines of shell, lines of Python) of the first example of its kind."""
  path, start = PAGES[page]
  text = path.read_text().partition(start)[2]
  found = re.findall(r'^```(\w*)\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
  return tuple(next(said for language, said in found if language == wanted)
               .splitlines() for wanted in ('', 'python'))


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Where the examples are typed: media, and nothing of the user's own."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  for number, name in enumerate(('clips/a.png', 'photo.jpg', 'dog.jpg')):
    tiny_index.picture(tmp_path / name, number)
  for name in ('clips/b.mp4', 'kitchen.mp4'):
    (tmp_path / name).write_bytes(numbered_videos.video(30))
  return tmp_path


def typed(line):
  """Runs a line of shell, all but installing, and serving without end."""
  words = shlex.split(HUB.sub(str(tiny_index.CLIP), line), comments=True)
  if words[:2] == ['pip', 'install']:
    wanted = re.fullmatch(r'\.\[([\w,]+)\]', words[-1])[1].split(',')
    extras = re.findall(r'^(\w+) =$', (ROOT / 'setup.cfg').read_text(),
                        re.MULTILINE)
    assert set(wanted) <= set(extras), line
    return
  assert words[0] == 'jaxret', line
  if words[1] == 'serve':
    from jaxret.verbs import serve
    assert pathlib.Path(serve.parse(words[2:]).index).is_dir()
    return
  assert cli.main(words[1:]) == 0, line


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_the_search_example(page, folder, capsys):
  shell, python = blocks(page)
  for line in shell:
    typed(line)
  found = capsys.readouterr().out
  assert '2 rows' in found and 'a.png' in found and 'b.mp4' in found
  exec(HUB.sub(str(tiny_index.CLIP), '\n'.join(python)), {})
  found = capsys.readouterr().out
  assert 'a.png None' in found and 'b.mp4 0.0' in found


def test_the_search_example_is_short():
  shell, python = blocks('search')
  assert len(shell) <= 4 and len(python) <= 5


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
