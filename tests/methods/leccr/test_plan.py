"""LECCR's plan: counts against the model's own, fits against the compiler."""
import importlib.util
import json

import jax
import numpy as np
import pytest

from configs import leccr as leccr_config
from jaxret import main
from jaxret.methods.leccr import plan
from jaxret.models.qwen2_vl import model as qwen2_vl

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no libtpu, the TPU compiler: pip install -e '.[tpu]'")


def config_of(variant='', **fields):
  config = leccr_config.get_config(variant)
  config.task = 'plan'
  config.plan.px = (56, 56)
  config.update_from_flattened_dict(fields)
  return config


def test_an_example_is_what_the_config_pads_it_to():
  example, constants = plan.example_of(plan.build(config_of(
      **{'plan.caption_words': 5, 'plan.description_words': 7})))
  assert example['source'].shape == example['target'].shape == (20,)
  assert example['description'].shape == (20,)
  # With the tokens that start and end a text.
  assert (example['source_length'], example['description_length']) == (7, 9)
  assert example['visual'].shape == (48, 48, 3) and 'slot_weight' in constants
  bare, _ = plan.example_of(plan.build(config_of(**{'model.slots': 0})))
  assert 'description' not in bare
  frames, _ = plan.example_of(plan.build(config_of(
      **{'model.frame_layers': 1, 'data.features': 'x', 'plan.frames': 6})))
  assert frames['visual'].shape == (6, 64) and frames['n_frames'] == 6


def test_flops_are_of_all_languages_and_of_what_is_written():
  config = config_of(**{'plan.media': 3, 'plan.description_words': 4,
                        'train.steps': 0, 'train.epochs': 2.0,
                        'plan.train_pairs': 5})
  model = plan.build(config)
  batches = {'leccr': plan.example_of(model)}
  described = plan.describer_of(config)
  one, two = (plan.count_job({'leccr': model}, batches, described, languages)
              for languages in (1, 2))
  each = model.method.train_flops({
      name: np.asarray(value)[None]
      for name, value in batches['leccr'][0].items()})
  assert one['training leccr'] == pytest.approx(2 * 5 * each)
  assert two['training leccr'] == pytest.approx(2 * one['training leccr'])
  assert two['describing'] == one['describing']
  _, sizes, example, _ = described
  length = int(example['length'])
  read = 3 * qwen2_vl.flops(sizes, length, [16])
  assert read < one['describing'] < 3 * qwen2_vl.flops(
      sizes, length + 4, [16]) + 3 * 4 * 2 * 1.01 * 560 * 96
  assert plan.describer_of(config_of(**{'model.slots': 0})) is None


def test_sizes_are_those_of_files_without_weights(tmp_path):
  bert = {'model_type': 'bert', 'hidden_size': 24, 'num_hidden_layers': 3,
          'num_attention_heads': 2, 'intermediate_size': 48,
          'vocab_size': 99, 'max_position_embeddings': 512,
          'hidden_act': 'gelu', 'layer_norm_eps': 1e-12, 'type_vocab_size': 2,
          'hidden_dropout_prob': 0.1, 'attention_probs_dropout_prob': 0.1}
  clip = {'model_type': 'clip', 'projection_dim': 16, 'text_config': {
      'hidden_size': 16, 'num_attention_heads': 2}, 'vision_config': {
          'hidden_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2,
          'intermediate_size': 64, 'image_size': 224, 'patch_size': 32}}
  for name, whole in (('bert', bert), ('clip', clip)):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text(json.dumps(whole))
  model = plan.build(config_of('multi30k_de', **{
      'model.text_pretrained': str(tmp_path / 'bert'),
      'model.vision_pretrained': str(tmp_path / 'clip')}))
  shapes = {leaf.shape for leaf in jax.tree.leaves(model.params)}
  assert {(99, 24), (3, 24, 48), (1, 32, 64)} <= shapes
  assert plan.example_of(model)[0]['visual'].shape == (384, 384, 3)


def test_what_cannot_be_planned_is_refused_in_one_line(tmp_path):
  for fields, message in (
      ({'captioner.model.family': 'videochat_flash'}, 'qwen2_vl alone'),
      ({'model.vocab_size': 0}, 'model.vocab_size is 0'),
      ({'plan.topology': 'a100:8'}, 'its kind is one of')):
    with pytest.raises(ValueError, match=message) as error:
      plan.plan(config_of(**{'compare': (), **fields}), tmp_path / 'run')
    assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('trains', [
    False, pytest.param(True, marks=pytest.mark.campaign)])
def test_plan_of_a_tiny_run(trains, tmp_path, capsys, monkeypatch):
  if not trains:  # that is what compiles long
    monkeypatch.setattr(plan, 'rehearse_training', lambda *of: {})
  assert main.main([
      'jaxret', '--config=configs/leccr.py', '--config.task=plan',
      '--config.compare=()', '--config.captioner.model.layers=1',
      '--config.model.reader_layers=1', '--config.model.text.layers=1',
      '--config.plan.px=(56, 56)', f'--workdir={tmp_path}']) == 0
  [found] = json.loads((tmp_path / 'plan.json').read_text())['slices']
  assert list(found['programs']) == [
      *['training leccr'] * trains, 'prompts', 'describing']
  assert all(program['fits'] for program in found['programs'].values())
  assert set(found['jobs']) == {'training leccr', 'describing'}
  assert 'v5e:2x2 | describing' in capsys.readouterr().out
