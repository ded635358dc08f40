"""jaxret export: its flags reach the exporter; errors are one line."""
import json

import pytest

from jaxret import cli
from jaxret.exporting import export as exporting
from jaxret.exporting import hub


def test_flags_reach_what_exports(monkeypatch, capsys):
  asked = []
  monkeypatch.setattr(exporting, 'export', lambda *given: (
      asked.append(given), given[1])[1])
  monkeypatch.setattr(hub, 'push', lambda *given: (
      asked.append(given), 'address')[1])
  assert cli.main(['export', 'run', '--out=DIR']) == 0
  assert capsys.readouterr().out == 'DIR: written\n'
  assert cli.main(['export', 'run', '--out=DIR', '--format=peft',
                   '--dtype=bfloat16', '--license=mit', '--push=me/x',
                   '--json']) == 0
  assert json.loads(capsys.readouterr().out) == {
      'out': 'DIR', 'pushed': 'address'}
  assert asked == [('run', 'DIR', None, None, None),
                   ('run', 'DIR', 'peft', 'bfloat16', 'mit'),
                   ('DIR', 'me/x', False)]


@pytest.mark.parametrize('argv, message', [
    (['--out=x'], 'WORKDIR'), (['run'], '--out'),
    (['run', '--out=x', '--fromat=y'], '--fromat'),
    (['nothing', '--out=x'], 'nothing is no workdir')])
def test_errors_are_one_line(argv, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.main(['export', *argv]) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and message in error


def test_help(capsys):
  assert cli.main(['export', '--help']) == 0
  assert '--push OWNER/NAME' in capsys.readouterr().out
