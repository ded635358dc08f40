"""`make test-lowest` installs every requirement at its bound, all of them."""
import pathlib
import re
import runpy
import tomllib

import pytest
from setuptools.config import setupcfg

ROOT = pathlib.Path(__file__).resolve().parents[1]
constraints = runpy.run_path(ROOT / '.ci' / 'lowest.py')['constraints']


def test_every_requirement_is_installed_at_its_bound():
  # setuptools reads the file for itself: it is what pip installs by.
  options = setupcfg.read_configuration(ROOT / 'setup.cfg')['options']
  required = [*options['install_requires'],
              *(line for extra in options['extras_require'].values()
                for line in extra)]
  assert len(required) > 30
  wanted = {re.sub(r'\[.*\]', '', line).replace('>=', '==')
            for line in required}
  assert set(constraints()) == wanted
  names = [line.partition('==')[0] for line in constraints()]
  assert len(names) == len(set(names))


def test_pyproject_has_the_same_bounds():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  lowest = dict(line.split('==') for line in constraints())
  assert project['build-system']['requires'] == [
      f'setuptools>={lowest["setuptools"]}']
  assert (project['tool']['pytest']['ini_options']['minversion']
          == lowest['pytest'])


@pytest.mark.parametrize('line, said', [
    ('pillow', "got 'pillow', wanted NAME>=VERSION"),
    ('pillow>=11,<14', "got 'pillow>=11,<14', wanted NAME>=VERSION"),
    ('pillow==13.0', "got 'pillow==13.0', wanted NAME>=VERSION"),
    ('numpy>=2.1', 'numpy>=2.0 and numpy>=2.1, wanted one bound'),
])
def test_a_requirement_without_one_bound_is_named(tmp_path, line, said):
  path = tmp_path / 'setup.cfg'
  path.write_text('[options]\ninstall_requires =\n    numpy>=2.0\n'
                  f'[options.extras_require]\ntest =\n    {line}\n')
  with pytest.raises(ValueError) as error:
    constraints(path)
  assert said in str(error.value)


def test_extras_are_left_to_what_is_installed(tmp_path):
  path = tmp_path / 'setup.cfg'
  path.write_text('[options]\ninstall_requires =\n    jax>=0.10.2\n'
                  '[options.extras_require]\ntpu =\n    jax[tpu]>=0.10.2\n')
  assert constraints(path) == ['jax==0.10.2']
