"""What pip installs works by itself, in a folder that holds nothing."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests import tiny_runs

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGED = ('jaxret', 'configs', 'setup.py', 'setup.cfg', 'pyproject.toml',
            'MANIFEST.in', 'README.md', 'LICENSE')


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
  """A copy of what is packaged, in a folder with the name of the package."""
  folder = tmp_path_factory.mktemp('parent') / 'jaxret'
  folder.mkdir()
  for name in PACKAGED:
    if (ROOT / name).is_dir():
      shutil.copytree(ROOT / name, folder / name,
                      ignore=shutil.ignore_patterns('__pycache__'))
    else:
      shutil.copy(ROOT / name, folder)
  return folder


@pytest.fixture(scope='module')
def installed(clone, tmp_path_factory):
  """The folder that a wheel of the clone is installed in."""
  wheels, target = (tmp_path_factory.mktemp(name) for name in ('w', 'site'))
  pip('wheel', '--no-build-isolation', '--wheel-dir', wheels, clone)
  wheel, = wheels.glob('*.whl')
  pip('install', '--target', target, wheel)
  return target


def pip(command, *arguments):
  subprocess.run([sys.executable, '-m', 'pip', '-q', command, '--no-deps',
                  '--no-index', '--disable-pip-version-check',
                  *map(str, arguments)], check=True)


def call(installed, folder, *arguments):
  """`jaxret ...` in a folder, the installation before all else."""
  return subprocess.run(
      [sys.executable, installed / 'bin' / 'jaxret', *map(str, arguments)],
      cwd=folder, env={**os.environ, 'PYTHONPATH': str(installed),
                       'XLA_FLAGS': '--xla_backend_optimization_level=0'},
      capture_output=True, text=True)


def test_wheel_holds_one_top_level_package(installed):
  names = {path.name for path in installed.iterdir()}
  assert {name for name in names if '.dist-info' not in name} == {
      'jaxret', 'bin'}
  here = {str(path.relative_to(ROOT)) for folder in ('jaxret', 'configs')
          for path in (ROOT / folder).rglob('*')
          if path.is_file() and path.suffix != '.pyc'}
  there = {str(path.relative_to(installed)) for path in
           (installed / 'jaxret').rglob('*') if path.is_file()
           and path.suffix != '.pyc'}
  assert there == {name if name.startswith('jaxret/') else f'jaxret/{name}'
                   for name in here}


def test_wheel_says_that_it_is_annotated(installed):
  assert (installed / 'jaxret' / 'py.typed').is_file()


def test_installed_program_finds_its_configs(installed, tmp_path):
  assert call(installed, tmp_path, '--version').stdout.startswith('jaxret ')
  answer = call(installed, tmp_path, 'configs', '--json')
  found = json.loads(answer.stdout)
  assert [entry['file'] for entry in found] == [
      'configs/answers.py', 'configs/blim.py', 'configs/embedders.py',
      'configs/leccr.py', 'configs/mm_embed.py', 'configs/unite.py']
  assert all(pathlib.Path(entry['path']).is_relative_to(installed.resolve())
             for entry in found)
  answer = call(installed, tmp_path, 'run', '--config=configs/blim.py:folder',
                '--config.sede=1')
  assert (answer.returncode, answer.stderr) == (
      1, "jaxret: config has no key 'sede'; did you mean 'seed'?\n")
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_installed_program_trains_in_an_empty_folder(installed, tmp_path):
  flags = tiny_runs.shapes_flags(tmp_path / 'data', **{'train.steps': 2})
  answer = call(installed, tmp_path, 'run', '--config=configs/blim.py', *flags)
  assert answer.returncode == 0, answer.stderr
  found = tiny_runs.results(tmp_path / 'workdirs' / 'blim')
  assert found['sizes'] == {'videos': 6, 'texts': 6}


def test_import_works_in_the_folder_that_holds_an_editable_clone(
    clone, tmp_path):
  """There the clone itself looks like a package of that name."""
  subprocess.run(
      [sys.executable, '-c', 'import sys; from setuptools import build_meta; '
       'build_meta.build_editable(sys.argv[1])', tmp_path], cwd=clone,
      check=True, capture_output=True)
  wheel, = tmp_path.glob('*.whl')
  with zipfile.ZipFile(wheel) as files:
    files.extractall(tmp_path / 'site')
  code = (f'import site; site.addsitedir({str(tmp_path / "site")!r}); '
          'import jaxret; print(jaxret.__version__, jaxret.__file__)')
  answer = subprocess.run(  # -S: without what is installed for the tests
      [sys.executable, '-S', '-c', code], cwd=clone.parent, env={},
      capture_output=True, text=True)
  assert answer.stdout.split()[1:] == [str(clone / 'jaxret' / '__init__.py')], (
      answer.stderr)
