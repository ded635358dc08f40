"""Where the rendered corpus of a config is built."""
import sys
import types as python_types

import pytest

from jaxret.data import sets
from tests.captions import section, touch, write


@pytest.fixture
def built(monkeypatch):
  """A stand-in for the renderer that notes what it is asked for."""
  calls = []

  def build(out_dir, **arguments):
    calls.append((out_dir, arguments))
    touch(out_dir / 'videos' / '0.mp4')
    write(out_dir / 'captions_test.json',
           [{'video': '0.mp4', 'caption': 'a red square'}])

  module = python_types.ModuleType('jaxret.data.shapes.world')
  module.build = build
  monkeypatch.setitem(sys.modules, 'jaxret.data.shapes.world', module)
  monkeypatch.setattr('jaxret.data.shapes.world', module, raising=False)
  return calls


def test_shapes_are_built_in_the_cache(built, tmp_path, monkeypatch):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path))
  sizes = {'train': 2, 'validation': 1, 'test': 1}
  split = sets.load(section('shapes', sizes=sizes, seed=3), 'test')
  assert built[0][1] == {'sizes': sizes, 'seed': 3}
  assert built[0][0].parent == tmp_path
  assert split.videos[0].video == str(built[0][0] / 'videos' / '0.mp4')
  sets.load(section('shapes', sizes=sizes, seed=4), 'test')
  assert built[1][0] != built[0][0]


def test_shapes_are_built_under_the_root(built, tmp_path):
  sets.load(section('shapes', tmp_path / 'corpus'), 'test')
  assert built == [(tmp_path / 'corpus', {})]
