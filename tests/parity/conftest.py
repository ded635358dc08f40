"""Golden data: outputs of the authors' code, see README.json in each folder.

Tests open the files themselves, so that a missing file in a folder that is
there fails, while a system whose whole folder is missing is skipped.
"""
import pytest


def _folder(config, system):
  root = config.getoption('--golden')
  if not root.is_dir():
    pytest.fail(f'--golden={root} is not a folder; name one that holds blim/')
  folder = root / system
  if not folder.is_dir():
    pytest.skip(f'{root} holds no folder {system}/')
  return folder


@pytest.fixture(scope='session')
def blim_golden(pytestconfig):
  """Path of the golden data of BLiM."""
  return _folder(pytestconfig, 'blim')


@pytest.fixture(scope='session')
def unite_golden(pytestconfig):
  """Path of the golden data of UNITE."""
  return _folder(pytestconfig, 'unite')


@pytest.fixture(scope='session')
def leccr_golden(pytestconfig):
  """Path of the golden data of LECCR."""
  return _folder(pytestconfig, 'leccr')


@pytest.fixture(scope='session')
def mm_embed_golden(pytestconfig):
  """Path of the golden data of MM-Embed."""
  return _folder(pytestconfig, 'mm_embed')
