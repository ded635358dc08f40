"""A tiny model, its inputs, and the scores of full passes."""
import pytest

from tests import tiny_likelihood as tiny


@pytest.fixture(scope='module')
def params():
  return tiny.make_params()


@pytest.fixture(scope='module')
def features():
  return tiny.make_features()


@pytest.fixture(scope='module')
def prompts():
  return tiny.make_prompts()


@pytest.fixture(scope='module')
def wanted(params, features, prompts):
  return tiny.full_passes(params, features, prompts)
