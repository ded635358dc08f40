"""Config files: found from anywhere, what their source says of fields."""
import os
import pathlib
import subprocess
import sys

import pytest

from jaxret import config_files

ROOT = pathlib.Path(__file__).resolve().parents[1]

FILES = ('answers', 'blim', 'embedders', 'leccr', 'mm_embed', 'unite')


def path_of(name):
  return ROOT / 'configs' / f'{name}.py'


def load(name, variant=''):
  return config_files.load(f'{path_of(name)}:{variant}')


def test_all_files_are_listed_and_what_they_share_is_none():
  assert [path.stem for path in config_files.listed(
      ROOT / 'configs').values()] == list(FILES)


def test_comments_are_found_by_section(tmp_path):
  path = tmp_path / 'tiny.py'
  path.write_text("""
from ml_collections import ConfigDict

NAMES = {
    'one': 1,  # by a constant
}

def base():
  config = ConfigDict({
      'seed': 0,  # of all
      # Two lines
      # of text.
      'train': {
          'steps': 1,  # beside

          'size': 2, 'rate': 3,  # of the last key of two, which is not said
          'many': (1,
                   2)},  # at the end
      'model': model(7), 'names': NAMES})
  config.extra = ''  # of an attribute
  config.model.update({
      'depth': 1})  # added
  config.train.steps = 5  # changes what was said
  config.stage = ConfigDict({'train': {'steps': 1}, 'seed': 1})
  return config

def model(width):
  return ConfigDict({
      'width': width,  # of a model
      'seed': 1,
      'text': {
          **part()}})

def part():
  return ConfigDict({
      'heads': 1})  # of a part

def get_config():
  return base()
""")
  said = config_files.Comments(path)
  fields = config_files.fields(config_files.load(str(path)))
  assert {key: said.of(key) for key in fields} == {
      'seed': 'of all', 'train.steps': 'beside', 'train.size': '',
      'train.rate': '', 'train.many': 'at the end', 'names.one':
      'by a constant', 'extra': 'of an attribute', 'model.depth': 'added',
      'model.width': 'of a model', 'model.seed': '',
      'model.text.heads': 'of a part', 'stage.train.steps': 'beside',
      'stage.seed': 'of all'}
  assert said.of('train') == 'Two lines of text.'
  text = config_files.describe(path, config_files.load(str(path)))
  assert 'train.many (tuple, (1, 2))\n    at the end\n' in text


def test_comments_are_found_in_a_file_of_any_editor(tmp_path):
  """Its mark, and characters that only str.splitlines takes for line ends."""
  path = tmp_path / 'odd.py'
  path.write_bytes(
      '\ufeff"""About.\u2028More."""\r\n\x0c\r\n'
      'from ml_collections import ConfigDict\r\n'
      'def get_config():\r\n  return base("a\u2028b\x85")\r\n'
      'def base(text):\r\n  return ConfigDict({\r\n'
      '      "seed": 0,  # of everything\r\n'
      '      "über": "日本\u2028語",  # beside a text\r\n'
      '      "task": text})  # at the end\r\n'.encode())
  assert config_files.is_config(path)
  assert config_files.load(str(path)).task == 'a\u2028b\x85'
  said = config_files.Comments(path)
  assert [said.of(key) for key in ('seed', 'über', 'task')] == [
      'of everything', 'beside a text', 'at the end']


def test_suggestions_name_config_files_only(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for wrong in ('configs/commom.py', 'configs/zzz', 'zzz/commom.py'):
    with pytest.raises(ValueError, match='no config file') as error:
      config_files.load(wrong)
    assert 'common' not in str(error.value)
    assert any(f'configs/{name}.py' in str(error.value) for name in FILES)
  with pytest.raises(ValueError, match='no get_config.*no config file'):
    config_files.load('configs/common.py')


def test_a_local_file_comes_first_and_imports_ours(tmp_path, monkeypatch):
  (tmp_path / 'configs').mkdir()
  monkeypatch.chdir(tmp_path)
  assert config_files.load('configs/blim.py').method == 'blim'
  assert config_files.listed()['configs/unite.py'] == path_of('unite')
  (tmp_path / 'configs' / 'blim.py').write_text("""
from configs import common, helper, unite

VARIANTS = {'': 'ours'}

def get_config():
  config = unite.get_config('stage1')
  config.seed = common.TOKEN + helper.SEED
  return config
""")
  (tmp_path / 'configs' / 'helper.py').write_text('SEED = 1\n')
  config = config_files.load('configs/blim.py')
  assert (config.method, config.seed) == ('unite', 785)
  listed = config_files.listed()
  assert listed['configs/blim.py'] == pathlib.Path('configs/blim.py')
  assert 'configs/helper.py' not in listed and 'configs/leccr.py' in listed


def test_another_package_of_that_name_is_not_taken(tmp_path, monkeypatch):
  """Libraries that install a top-level `configs` exist."""
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / '__init__.py').write_text('')
  monkeypatch.syspath_prepend(tmp_path)
  before = {name: module for name, module in sys.modules.items()
            if name.split('.')[0] == 'configs'}
  assert load('unite').method == 'unite'
  assert before == {name: module for name, module in sys.modules.items()
                    if name.split('.')[0] == 'configs'}


ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_configs_find_their_neighbours_from_anywhere(tmp_path):
  answer = subprocess.run(
      [sys.executable, '-m', 'jaxret.main',
       f'--config={ROOT}/configs/blim.py:folder', '--config.sede=1'],
      cwd=tmp_path, env={**os.environ, 'PYTHONPATH': ''},
      capture_output=True, text=True)
  assert answer.returncode == 1
  assert answer.stderr == (
      "jaxret: config has no key 'sede'; did you mean 'seed'?\n")
