"""The front door: verbs are files, and cost nothing until they are used."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

import jaxret
from jaxret import cli, main, verbs

ROOT = pathlib.Path(__file__).resolve().parents[1]


def lines(capsys):
  captured = capsys.readouterr()
  return captured.out, captured.err


def test_version_and_help_need_nothing_heavy():
  code = ('import sys; from jaxret import cli; '
          'codes = [cli.main([flag]) for flag in ("--version", "--help")]; '
          'print(codes, {"jax", "numpy", "absl", "ml_collections"} '
          '& set(sys.modules))')
  answer = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout.splitlines()
  assert answer[0] == f'jaxret {jaxret.__version__}'
  assert answer[-1] == '[0, 0] set()'
  assert any(line.split()[:1] == ['configs'] for line in answer)


def test_python_m_jaxret_is_the_same():
  answer = subprocess.run(
      [sys.executable, '-m', 'jaxret', 'conf'], cwd=ROOT, capture_output=True,
      text=True)
  assert (answer.returncode, answer.stdout, answer.stderr) == (
      1, '', "jaxret: unknown verb 'conf'; did you mean 'configs'?\n")


def test_an_unknown_verb_is_answered_by_what_there_is(capsys):
  assert cli.main(['zzz']) == 1
  assert lines(capsys) == (
      '', "jaxret: unknown verb 'zzz'; there is answer, claims, compare, "
      'configs, export, index, mteb, run, score, search, serve\n')
  assert cli.main([]) == 0
  assert 'jaxret VERB' in lines(capsys)[0]


def test_a_new_verb_is_a_new_file(tmp_path, monkeypatch, capsys):
  (tmp_path / 'greet.py').write_text(
      '"""Says hello.\n\nMore of it.\n"""\n\n'
      'def main(argv):\n  print("hello", *argv)\n  return 3\n')
  (tmp_path / '_helper.py').write_text('')
  monkeypatch.setattr(verbs, '__path__', [*verbs.__path__, str(tmp_path)])
  assert cli.main(['greet', 'you', '--loud']) == 3
  assert lines(capsys)[0] == 'hello you --loud\n'
  assert cli.main(['--help']) == 0
  shown = lines(capsys)[0]
  assert 'greet    Says hello.\n' in shown and '_helper' not in shown


@pytest.mark.parametrize('flags', [
    [], ['--config=configs/blmi.py'], ['--config=configs/blim.py:folde'],
    ['--config=configs/blim.py', '--config.sede=1'],
    ['--config=configs/blim.py', '--config.seed=x'],
    ['--config=configs/blim.py', '--config.task=evalute'],
    ['--config=configs/blim.py', 'more'], ['--help'],
    ['--config=configs/unite.py:stage1', '--help']])
def test_run_is_the_program(capsys, monkeypatch, flags):
  monkeypatch.chdir(ROOT)
  codes, answers = [], []
  for run in (lambda: cli.main(['run', *flags]),
              lambda: main.main(['jaxret', *flags])):
    codes.append(run())
    answers.append(lines(capsys))
  assert codes[0] == codes[1] == (0 if '--help' in flags else 1)
  assert answers[0] == answers[1] and ''.join(answers[0]).strip()


def test_help_of_a_config_shows_its_fields(capsys):
  def shown(spec):
    assert main.main(['jaxret', f'--config={ROOT}/configs/{spec}',
                      '--help']) == 0
    return lines(capsys)[0]
  for spec, paragraph in (
      ('blim.py', 'train.batch_size (int, 32)\n'
       '    examples of an update, over all devices\n'),
      ('blim.py:lsmdc', 'train.batch_size (int, 256)\n'
       '    examples of an update, over all devices\n'),
      ('mm_embed.py', 'rerank.questions.text_to_image (str, '),
      ('leccr.py', "recipe.preset (str, 'corrected')\n")):
    assert paragraph in shown(spec)
  assert main.main(['jaxret', f'--config={ROOT}/configs/blim.py:x',
                    '--help']) == 1
  assert "has no variant 'x'" in lines(capsys)[1]


def test_configs_lists_files_variants_and_tasks(
    tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert cli.main(['configs', '--json']) == 0
  found = {entry['method']: entry for entry in json.loads(lines(capsys)[0])}
  assert list(found) == [
      'answers', 'blim', 'embedders', 'leccr', 'mm_embed', 'unite']
  assert found['blim']['tasks'] == [
      'train_and_evaluate', 'evaluate', 'extract', 'plan']
  assert found['mm_embed']['tasks'] == [
      'train_and_evaluate', 'evaluate', 'mine', 'plan']
  assert found['leccr']['file'] == 'configs/leccr.py'
  for entry in found.values():
    for variant in entry['variants']:
      assert main.load_config(
          f'{entry["file"]}:{variant}').method == entry['method']
  assert cli.main(['configs']) == 0
  text = lines(capsys)[0]
  for entry in found.values():
    for variant, line in entry['variants'].items():
      assert any(shown.split() == [*([f':{variant}'] if variant else []),
                                   *line.split()]
                 for shown in text.splitlines())


def test_configs_says_which_file_is_broken(tmp_path, monkeypatch, capsys):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'bad.py').write_text('def get_config():\n  return x')
  monkeypatch.chdir(tmp_path)
  assert cli.main(['configs']) == 1
  assert 'bad.py' in lines(capsys)[1]
  assert cli.main(['configs', '--jsn']) == 1
  assert "'--jsn'; did you mean '--json'?" in lines(capsys)[1]


def test_a_reader_that_has_seen_enough_is_no_error():
  read, write = os.pipe()
  os.close(read)  # as `| head` does, sooner or later
  process = subprocess.run(
      [sys.executable, '-m', 'jaxret', 'configs'], cwd=ROOT, stdout=write,
      stderr=subprocess.PIPE, text=True)
  os.close(write)
  assert process.returncode == 0 and process.stderr == ''
