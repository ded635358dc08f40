"""jaxret.json: options that come back as they were; what is refused."""
import json
import pathlib

import pytest

from jaxret import embedding_settings as settings
from jaxret.data import recipes
from jaxret.data.dual_encoder import pixels as dual_encoder
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from jaxret.data.qwen25_vl import pixels as qwen25_vl


@pytest.mark.parametrize('options', [
    {}, {'max_tokens': 7, 'alpha': 'released', 'prompt': 'a {content}'},
    {'resolution': qwen2_vl.Resolution(fps=2.0, read_image=(784, 1568)),
     'position_mode': 'mrope', 'pooling': 'mean',
     'prompt': recipes.RECIPES['gve'].prompt},
    {'resolution': qwen3_vl.Resolution(max_frames=8)},
    {'resolution': dual_encoder.Resolution(max_frames=3)},
    {'resolution': qwen25_vl.Resolution(fps=1.0)}])
def test_options_come_back(tmp_path, options):
  settings.write(tmp_path, options)
  found = settings.read(tmp_path)
  assert found == options
  assert [type(value) for value in found.values()] == [
      type(value) for value in options.values()]


def test_no_file_is_no_options(tmp_path):
  assert settings.read(tmp_path) == {}


@pytest.mark.parametrize('whole, message', [
    ({'version': 2, 'load': {}}, 'got version 2, want 1'),
    ({'version': 1, 'load': []}, 'want 1 and options'),
    ({'version': 1, 'load': {'adapter': 'x'}}, "unknown option 'adapter'"),
    ({'version': 1, 'load': {'resolution': {'of': 'x'}}}, 'cannot be used'),
    ({'version': 1, 'load': {'resolution': {'of': 'qwen2_vl', 'x': 1}}},
     'cannot be used'),
    ({'version': 1, 'load': {'prompt': {'text': 'a'}}}, 'cannot be used')])
def test_what_is_refused(tmp_path, whole, message):
  (tmp_path / settings.FILE).write_text(json.dumps(whole))
  with pytest.raises(ValueError, match=message) as error:
    settings.read(tmp_path)
  assert str(error.value).startswith(str(tmp_path / settings.FILE))


def test_every_option_is_one_of_load():
  import inspect

  from jaxret import loading
  assert set(settings.OPTIONS) <= set(
      inspect.signature(loading.load).parameters)
  assert pathlib.Path(settings.FILE).suffix == '.json'
