"""A method and a data set from outside, by dotted name: no edit in jaxret."""
import json
import pathlib
import shutil
import sys

import pytest

from jaxret import main

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def outside(tmp_path, monkeypatch):
  """The packages in a folder that only Python's path knows."""
  shutil.copytree(HERE / 'outside', tmp_path / 'lib' / 'outside')
  monkeypatch.syspath_prepend(tmp_path / 'lib')
  yield tmp_path / 'lib' / 'outside'
  for name in [name for name in sys.modules if name.startswith('outside')]:
    del sys.modules[name]


def run(outside, workdir, *flags):
  return main.main(['jaxret', f'--config={outside / "config.py"}',
                    f'--workdir={workdir}', *flags])


@pytest.mark.slow
def test_trains_evaluates_and_evaluates_again(outside, tmp_path, capsys):
  workdir = tmp_path / 'run'
  assert run(outside, workdir) == 0
  results = json.loads((workdir / 'results.json').read_text())
  for direction in ('text_to_video', 'video_to_text'):
    assert results[direction]['chance']['recall_at_1'] == 0.0
    assert results[direction]['matcher']['recall_at_1'] == 100.0
  assert 'matcher' in capsys.readouterr().out
  assert 'toy matcher' in (workdir / 'report.html').read_text()  # of ROWS
  (workdir / 'results.json').unlink()
  assert run(outside, workdir, '--config.task=evaluate') == 0
  assert json.loads((workdir / 'results.json').read_text()) == results


@pytest.mark.parametrize('flag, message', [
    ('--config.method=outside.other', "no module 'outside.other'"),
    ('--config.method=nowhere.other', "no module 'nowhere'"),
    ('--config.method=outside.colours', 'its package has no TASKS'),
    ('--config.method=other', "unknown method 'other': config.method is one "
     'of answers, blim, embedders, leccr, mm_embed, unite, or the dotted '
     'name'),
    ('--config.task=mine', "unknown task 'mine'"),
    ('--config.data.name=outside.other', "no module 'outside.other'"),
])
def test_what_is_not_there_is_said_in_one_line(
    outside, tmp_path, capsys, flag, message):
  assert run(outside, tmp_path / 'run', flag) == 1
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith('jaxret: ') and message in error


def test_a_mistake_inside_of_a_package_is_no_missing_package(
    outside, tmp_path):
  (outside / 'matcher' / 'method.py').write_text('import not_installed\n')
  with pytest.raises(ModuleNotFoundError, match='not_installed'):
    run(outside, tmp_path / 'run')
