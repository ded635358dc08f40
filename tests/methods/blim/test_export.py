"""BLiM merged into a VideoChat-Flash, and read back as one."""
import jax
import numpy as np
import pytest

from jaxret import main, methods, sharding
from jaxret.data import text
from jaxret.exporting import export as exporting
from jaxret.methods import base
from jaxret.methods.blim import export
from jaxret.models import names
from tests import tiny_exports, tiny_runs

pytestmark = pytest.mark.usefixtures('one_device')


def make_config(pretrained, rank=2):
  config = main.load_config(f'{tiny_runs.CONFIG}:msrvtt')
  config.model.update(pretrained=str(pretrained), tokens_per_clip=4,
                      visual_width=8, remat='none')
  config.model.lora.rank = rank
  return config


def loaded(directory):
  """What a run starts with whose model.pretrained it is."""
  method = methods.get('blim').method(
      make_config(directory, 0), text.load_tokenizer(directory))
  return method.load(jax.random.key(5), sharding.make_mesh())['params']


def same(found, want):
  found, want = sharding.flatten(found), sharding.flatten(want)
  assert found.keys() == want.keys()
  for path, value in want.items():
    np.testing.assert_allclose(found[path], value, atol=1e-6, err_msg=path)


@pytest.fixture
def run(tmp_path):
  """(released model, workdir, its merged parameters)."""
  released = tmp_path / 'released'
  tiny_runs.write_released_model(
      released, ['some of some kind'], tiny_runs.FEATURE_SHAPE[2])
  config = make_config(released)
  workdir, params = tiny_exports.workdir(
      tmp_path / 'run', config, text.load_tokenizer(released))
  return released, workdir, base.merged(config, params)['params']


@pytest.mark.slow
def test_all_that_was_trained_comes_back(run, tmp_path):
  """Decoder with its factors, both projectors and the visual head."""
  released, workdir, want = run
  out = exporting.export(workdir, tmp_path / 'out')
  found = loaded(out)
  same(found, want)
  for path in ('decoder/layers/attention/q/kernel', 'visual_head/kernel'):
    other = sharding.flatten(loaded(released))[path]
    assert np.abs(np.asarray(other) - sharding.flatten(want)[path]).max() > 1e-3
  card = (out / 'README.md').read_text()
  assert "jaxret.load_generator('DIR', dtype='bfloat16')" in card


@pytest.mark.slow
def test_heads_of_a_base_that_has_them_are_replaced(run, tmp_path):
  """Of a run on an export: not what the export had."""
  _, workdir, want = run
  out = exporting.export(workdir, tmp_path / 'out')
  trained = jax.tree.map(lambda leaf: leaf + 1, {
      name: want[name] for name in ('visual_head', 'projector')})
  made = export.exported(make_config(out), None, {
      'params': {**want, **trained}})
  exporting._write_part(made.parts[''], tmp_path / 'again', None)
  for path in out.iterdir():
    if path.suffix == '.json' and 'safetensors' not in path.name:
      (tmp_path / 'again' / path.name).write_bytes(path.read_bytes())
  same(loaded(tmp_path / 'again'), {**want, **trained})
  assert made.parts[''].table is names.VIDEOCHAT_FLASH


def test_what_has_no_layout():
  assert not export.has_layout(make_config(''))
  config = make_config('some/model')
  assert export.has_layout(config)
  config.model.backbone = 'qwen3_vl'
  assert not export.has_layout(config)
