"""The command line: the right task with the right config, or one line."""
import logging as std_logging
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from jaxret import main

ROOT = pathlib.Path(__file__).resolve().parents[1]

CONFIG = """
from ml_collections import ConfigDict

def get_config(variant=''):
  if variant not in ('', 'large'):
    raise ValueError(f'no variant {variant!r}: use large, or none')
  return ConfigDict({
      'task': 'evaluate', 'method': 'tiny_methods.tiny', 'action': '',
      'train': {'batch_size': 64 if variant else 8, 'steps': 0},
      'optim': {'learning_rate': 0.1, 'betas': (0.9, 0.95)}}).lock()
"""

TASK = """
def evaluate(config, workdir):
  action = config.action
  if action == 'value':
    raise ValueError('no such thing:\\n  here, wanted there')
  if action == 'stop':
    raise KeyboardInterrupt('stopped at step 3')
  if action == 'bug':
    raise RuntimeError('our own mistake')
  print(workdir, config.to_dict())
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
  """A config file, whose method lies outside and needs no models."""
  (tmp_path / 'tiny.py').write_text(CONFIG)
  package = tmp_path / 'tiny_methods' / 'tiny'
  package.mkdir(parents=True)
  (package / '__init__.py').write_text(
      "TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run'}\n")
  (package / 'run.py').write_text(textwrap.dedent(TASK))
  monkeypatch.syspath_prepend(tmp_path)
  for name in ('', '.tiny', '.tiny.run'):
    monkeypatch.delitem(sys.modules, f'tiny_methods{name}', raising=False)
  return tmp_path / 'tiny.py'


def run(*flags):
  return main.main(['jaxret', *map(str, flags)])


def test_task_gets_config_variant_overrides_and_workdir(
    config, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert run(f'--config={config}:large', '--config.optim.betas=(0.5,0.9)',
             '--config.optim.learning_rate', '1') == 0
  assert capsys.readouterr().out == (
      "workdirs/tiny-large {'action': '', 'method': 'tiny_methods.tiny', "
      "'optim': {'betas': (0.5, 0.9), 'learning_rate': 1.0}, 'task': "
      "'evaluate', 'train': {'batch_size': 64, 'steps': 0}}\n")
  assert run('--config', config, '--workdir=there') == 0
  assert capsys.readouterr().out.startswith('there {')
  assert run('--config', config) == 0
  assert capsys.readouterr().out.startswith('workdirs/tiny {')


@pytest.mark.parametrize('flags, message', [
    (['--config.train.batch_sise=3'],
     "config has no key 'train.batch_sise'; did you mean 'train.batch_size'?"),
    (['--config.trian.batch_size=3'],
     "config has no key 'trian.batch_size'; did you mean 'train.batch_size'?"),
    (['--config.train.batch_size.x=3'], "no key 'train.batch_size.x'"),
    (['--config.train.batch_size=many'], 'batch_size=many: invalid literal'),
    (['--config.train.batch_size=1.5'], 'batch_size=1.5: invalid literal'),
    (['--config.optim.learning_rate=fast'], 'learning_rate=fast: could not'),
    (['--config.optim.betas=x'],
     "--config.optim.betas got ('x',), wanted a tuple like (0.9, 0.95)"),
    (['--wrokdir=x'], "'wrokdir'. Did you mean: workdir ?"),
    (['more'], "unexpected argument 'more'"),
    (['--config.task=evaluat'],
     "unknown task 'evaluat'; did you mean 'evaluate'?"),
    (['--config.task=zzz'],
     "unknown task 'zzz'; there is train_and_evaluate, evaluate"),
    (['--config.action=value'], 'no such thing: here, wanted there'),
    (['--num_processes=2'], 'set all three or none'),
])
def test_bad_flags_are_answered_by_one_line(config, capsys, flags, message):
  assert run(f'--config={config}', *flags) == 1
  error = capsys.readouterr().err
  assert error.startswith('jaxret: ') and error.count('\n') == 1
  assert message in error


def test_bad_config_files_are_answered_by_one_line(config, capsys):
  broken = config.with_name('broken.py')
  broken.write_text('def get_config():\n  return {')
  missing = config.with_name('tinny.py')
  for flags, message in (
      ([f'--config={config}:big'], "no variant 'big': use large, or none"),
      ([f'--config={missing}'], f"tinny.py'; did you mean '{config}'?"),
      ([f'--config={broken}'], 'fails with SyntaxError'),
      ([], 'no config given: use --config='),
      (['--config='], 'no config given: use --config=')):
    assert run(*flags) == 1
    error = capsys.readouterr().err
    assert error.startswith('jaxret: ') and error.count('\n') == 1
    assert message in error


def test_interruption_is_one_line_and_a_bug_keeps_its_traceback(
    config, capsys):
  assert run(f'--config={config}', '--config.action=stop') == 130
  assert capsys.readouterr().err == 'jaxret: stopped at step 3\n'
  with pytest.raises(RuntimeError, match='our own mistake'):
    run(f'--config={config}', '--config.action=bug')
  with pytest.raises(ValueError, match='no such thing'):
    run(f'--config={config}', '--config.action=value', '--debug')


def test_help_needs_no_config(capsys):
  assert run('--help') == 0
  assert '--workdir' in capsys.readouterr().out


def test_program_answers_a_typo_without_a_traceback_or_jax(config):
  code = ('import sys; from jaxret import main; code = main.main(sys.argv); '
          'assert "jax" not in sys.modules; sys.exit(code)')
  for program in (['-m', 'jaxret.main'], ['-c', code]):
    answer = subprocess.run(
        [sys.executable, *program, f'--config={config}', '--config.sede=1'],
        cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1 and answer.stdout == ''
    assert answer.stderr == "jaxret: config has no key 'sede'\n"


def test_local_launcher_prefixes_output_and_returns_the_failure(config):
  answer = subprocess.run(
      [ROOT / 'launch' / 'local.sh', '2', f'--config={config}:big'],
      cwd=ROOT, env={**os.environ, 'PYTHON': sys.executable},
      capture_output=True, text=True, timeout=60)
  assert answer.returncode == 1
  lines = answer.stderr.splitlines()
  assert any(line.endswith("jaxret: no variant 'big': use large, or none")
             for line in lines)
  assert {line[:4] for line in lines} <= {'[0] ', '[1] '}


def test_local_launcher_ends_the_others_when_one_fails_or_it_is_told_to(
    config):
  """Process 0 sleeps for minutes; the launcher must not wait for it."""
  program = config.with_name('sleeper.py')
  program.write_text(textwrap.dedent("""
      import os, sys, time
      print('started', flush=True)
      if os.environ['JAXRET_PROCESS_ID'] == '1' and sys.argv[1] == 'fail':
        sys.exit(7)
      time.sleep(300)
  """))
  environment = {**os.environ, 'PYTHON': sys.executable,
                 'PYTHONPATH': str(config.parent), 'JAXRET_MODULE': 'sleeper'}
  def launch(action):
    return subprocess.Popen(
        [ROOT / 'launch' / 'local.sh', '2', action], env=environment,
        stdout=subprocess.PIPE, text=True)
  with launch('fail') as process:
    assert process.wait(timeout=60) == 7
  with launch('wait') as process:
    assert {process.stdout.readline() for _ in range(2)} == {
        '[0] started\n', '[1] started\n'}
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130


def test_launchers_are_valid_shell():
  for script in (ROOT / 'launch').glob('*.sh'):
    subprocess.run(['bash', '-n', script], check=True)
    assert os.access(script, os.X_OK), script


def test_libraries_log_warnings_only(config, capsys):
  from absl import logging
  run(f'--config={config}')
  library = logging.get_absl_logger().makeRecord(
      'absl', std_logging.INFO, '/site-packages/orbax/x.py', 1, 'saved', (),
      None)
  ours = logging.get_absl_logger().makeRecord(
      'absl', std_logging.INFO, str(ROOT / 'jaxret' / 'train.py'), 1,
      'resumed', (), None)
  handler = logging.get_absl_handler()
  assert not handler.filter(library) and handler.filter(ours)
  library.levelno = std_logging.WARNING
  assert handler.filter(library)


def test_a_line_of_the_log_has_time_and_message():
  """And says what is a warning; the record itself is left as it is."""
  plain = main._Plain('%(asctime)s %(message)s', '%H:%M:%S')
  for level, wanted in ((std_logging.INFO, 'step 3'),
                        (std_logging.WARNING, 'warning: step 3')):
    record = std_logging.LogRecord('a', level, 'f', 1, 'step %d', (3,), None)
    assert plain.format(record)[8:] == f' {wanted}'
    assert record.msg == 'step %d'
