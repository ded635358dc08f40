"""Prints the lowest versions that setup.cfg allows, as constraints for pip.

`make test-lowest` installs them, so a bound that is not true is found there.
Of `jax[tpu]>=0.10.2` comes `jax==0.10.2`: what is installed says the extras.
"""
import configparser
import pathlib
import re
import sys

SETUP = pathlib.Path(__file__).resolve().parents[1] / 'setup.cfg'
BOUND = re.compile(r'([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)')


def constraints(path=SETUP):
  """['absl-py==2.1', ...]: what is required or in an extra, each name once.

  Raises ValueError, which names the requirement, for one that says anything
  but a lower bound, and for two bounds of one package.
  """
  config = configparser.ConfigParser()
  config.read_string(path.read_text())
  required = config['options']['install_requires'].splitlines()
  for extra in config['options.extras_require'].values():
    required += extra.splitlines()
  lowest = {}
  for line in filter(None, map(str.strip, required)):
    bound = BOUND.fullmatch(line)
    if not bound:
      raise ValueError(f'{path.name}: got {line!r}, wanted NAME>=VERSION')
    name, version = bound.groups()
    if lowest.setdefault(name, version) != version:
      raise ValueError(f'{path.name}: {name}>={lowest[name]} and {line}, '
                       'wanted one bound of a package')
  return [f'{name}=={version}' for name, version in lowest.items()]


if __name__ == '__main__':
  try:
    print('\n'.join(constraints()))
  except ValueError as error:
    sys.exit(str(error))
