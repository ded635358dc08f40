"""Golden data: outputs of the authors' code, see README.json in each folder.

Tests open the files themselves, so that a missing file in a folder that is
there fails. A system whose whole folder is missing is skipped where --golden
names another folder than ours; ours has all of them, or the checkout is broken.
"""
import pathlib

import pytest

OURS = pathlib.Path(__file__).resolve().parents[1] / 'golden'


def folder(config, system):
  """Path of the golden data of a system."""
  root = config.getoption('--golden')
  if not root.is_dir():
    pytest.fail(f'--golden={root} is not a folder; name one that holds blim/')
  path = root / system
  if not path.is_dir() and root.resolve() == OURS:
    pytest.fail(f'{path} is missing: the checkout is not whole')
  if not path.is_dir():
    pytest.skip(f'{root} holds no folder {system}/')
  return path


@pytest.fixture(scope='session')
def blim_golden(pytestconfig):
  """Path of the golden data of BLiM."""
  return folder(pytestconfig, 'blim')


@pytest.fixture(scope='session')
def unite_golden(pytestconfig):
  """Path of the golden data of UNITE."""
  return folder(pytestconfig, 'unite')


@pytest.fixture(scope='session')
def leccr_golden(pytestconfig):
  """Path of the golden data of LECCR."""
  return folder(pytestconfig, 'leccr')


@pytest.fixture(scope='session')
def qwen25_vl_golden(pytestconfig):
  """Path of the golden data of Qwen2.5-VL."""
  return folder(pytestconfig, 'qwen25_vl')


@pytest.fixture(scope='session')
def mm_embed_golden(pytestconfig):
  """Path of the golden data of MM-Embed."""
  return folder(pytestconfig, 'mm_embed')


@pytest.fixture(scope='session')
def qwen3_vl_golden(pytestconfig):
  """Path of the golden data of Qwen3-VL, its embedder and reranker."""
  return folder(pytestconfig, 'qwen3_vl')


@pytest.fixture(scope='session')
def clip_golden(pytestconfig):
  """Path of the golden data of CLIP."""
  return folder(pytestconfig, 'clip')


@pytest.fixture(scope='session')
def siglip2_golden(pytestconfig):
  """Path of the golden data of SigLIP 2."""
  return folder(pytestconfig, 'siglip2')
