"""UNITE's plan: counts against the model's own, fits against the compiler."""
import importlib.util
import json

import jax
import pytest

from configs import unite as unite_config
from jaxret import main, rehearsal, tpu_slices
from jaxret.data import pair_examples
from jaxret.methods import embedding_plan
from jaxret.methods.unite import plan
from tests import published_configs

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no libtpu, the TPU compiler: pip install -e '.[tpu]'")


def build(**fields):
  config = unite_config.get_config()
  config.update_from_flattened_dict(fields)
  return rehearsal.build(config)


def example_of(model):
  return embedding_plan.example_of(model, plan.pair_of(model.config))


def test_an_example_is_padded_as_the_config_says():
  model = build()
  example = example_of(model)
  tokens, rows, patches = model.config.data.shape
  for side in ('query', 'candidate'):
    assert example[f'{side}_tokens'].shape == (tokens,)
  assert example['candidate_segments'].shape == (rows, patches)
  # 56 x 56 pixels of 14-pixel patches, four of which are a token.
  assert (example['candidate_segments'] > 0).sum() == 16
  text = build(**{'plan.candidate_frames': 0, 'data.shape': ()})
  rows = pair_examples.sides(example_of(text))['candidate']
  assert 'segments' not in rows
  assert rows['length'] == pair_examples.sides(
      example_of(text))['query']['length']


def test_flops_grow_with_what_is_trained_and_embedded():
  one = build(**{'train.steps': 0, 'train.epochs': 1.0,
                 'plan.train_pairs': 10, 'plan.candidates': 10})
  two = build(**{'train.steps': 0, 'train.epochs': 2.0,
                 'plan.train_pairs': 30, 'plan.candidates': 20})
  jobs = [embedding_plan.count_job(embedding_plan.Stages(
      {'unite': model}, {}, {'unite': example_of(model)}, plan.flops))
          for model in (one, two)]
  assert jobs[1]['training unite'] == pytest.approx(
      6 * jobs[0]['training unite'])
  assert jobs[1]['embedding'] == pytest.approx(2 * jobs[0]['embedding'])
  # All is trained: three passes over a text and an image.
  assert jobs[0]['training unite'] > 3 * jobs[0]['embedding']


def test_what_cannot_be_planned_is_refused_in_one_line(tmp_path):
  for fields, message in (
      ({'model.vocab_size': 0}, 'model.vocab_size is 0'),
      ({'plan.topology': 'a100:8'}, 'its kind is one of'),
      ({'plan.candidate_px': (560, 560)}, 'candidate')):
    config = unite_config.get_config()
    config.update_from_flattened_dict(fields)
    config.media.processor = config.media.read_image = (0, 10 ** 6)
    with pytest.raises(ValueError, match=message) as error:
      plan.plan(config, tmp_path / 'run')
    assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@needs_libtpu
def test_plan_of_the_default_config(tmp_path, capsys):
  assert main.main([
      'jaxret', '--config=configs/unite.py', '--config.task=plan',
      '--config.compare=()', '--config.model.layers=1',
      f'--workdir={tmp_path}']) == 0
  found = json.loads((tmp_path / 'plan.json').read_text())['slices'][0]
  assert list(found['programs']) == [
      'training stage1', 'training unite', 'embedding'] == list(found['jobs'])
  assert all(program['fits'] for program in found['programs'].values())
  assert 'v5e:2x2 | training stage1' in capsys.readouterr().out


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('published, variant, fields', [
    pytest.param(published_configs.QWEN25_VL_7B, 'stage1_7b',
                 {'model.position_mode': 'mrope'}, marks=pytest.mark.campaign),
    (published_configs.QWEN3_VL_8B, 'stage1_qwen3vl_8b', {})],
    ids=('qwen25_vl_7b', 'qwen3_vl_8b'))
def test_training_and_embedding_of_7b_and_8b_fit(
    tmp_path, published, variant, fields):
  config = unite_config.get_config(variant)
  config.update_from_flattened_dict(fields)
  config.model.pretrained = published_configs.write(tmp_path, published)
  model = rehearsal.build(config)
  weights = 2 * sum(leaf.size for leaf in jax.tree.leaves(
      model.params['params'])) / 16 / tpu_slices.GIB
  [found] = plan.plan(config, tmp_path / 'run')['slices']
  assert (found['slice'], found['chips']) == ('v5e:4x4', 16)
  assert len(found['programs']) == 2
  for program in found['programs'].values():
    assert program['fits'], program
    # Embedding holds the LoRA factors, too, which training has as its state.
    assert 0.98 * weights < program['gib']['weights'] < 1.1 * weights
