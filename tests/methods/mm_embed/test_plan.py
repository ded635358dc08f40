"""MM-Embed's plan: its counts against the model, fits against the compiler."""
import importlib.util
import json

import pytest

from configs import mm_embed as mm_embed_config
from jaxret import main, methods, tpu_slices
from jaxret.data import pair_examples
from jaxret.methods import embedding_plan
from jaxret.methods.mm_embed import plan
from jaxret.models.llava import mm_embed as model_lib

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no libtpu, the TPU compiler: pip install -e '.[tpu]'")


def open_stages(**fields):
  config = mm_embed_config.get_config()
  config.update(task='plan', before=('start',), starts_from='start',
                negatives='start')
  config.update_from_flattened_dict(fields)
  return config, embedding_plan.open_stages(
      config, '', plan.pair_of, plan.flops)


def test_a_stage_has_the_negatives_that_it_mines():
  _, stages = open_stages(**{'mine.negatives': 2,
                             'loss.distillation_weight': 0.5})
  sides = {row: set(pair_examples.sides(example))
           for row, example in stages.examples.items()}
  assert sides == {'start': {'query', 'candidate'}, 'mm_embed': {
      'query', 'candidate', 'negative', 'negative1'}}
  assert stages.examples['mm_embed']['teacher'].shape == (3,)
  assert stages.examples['start']['query_tokens'].shape == (48,)
  assert stages.examples['start']['candidate_tokens'].shape == (28,)


def test_mining_embeds_a_pool_and_compares_it_with_queries():
  fields = {'plan.train_pairs': 10, 'plan.candidates': 20, 'rerank.tasks': ()}
  config, stages = open_stages(**fields)
  job = plan.count_job(stages, plan.asked_of(config, stages))
  assert set(job) == {'training start', 'training mm_embed', 'embedding',
                      'mining'}
  length = int(stages.examples['mm_embed']['query_length'])
  sizes = methods.get('mm_embed').model_config(config, None)
  assert job['mining'] - job['embedding'] == pytest.approx(
      10 * (model_lib.flops(sizes, length) + 2 * 128 * 20))
  # An image is seen, a text is not.
  _, texts = open_stages(**fields, **{'plan.candidate_frames': 0})
  assert plan.count_job(texts, None)['embedding'] < job['embedding'] / 2


def test_reranking_reads_what_prompts_share_once():
  config, stages = open_stages(**{'rerank.depth': 1, 'plan.queries': 1})
  one = plan.asked_of(config, stages)
  config.rerank.depth = 3
  three = plan.asked_of(config, stages)
  jobs = [plan.count_job(stages, asked)['reranking'] for asked in (one, three)]
  # Both images are seen, that of the query once.
  assert len(three[1]) == 3 and 1.2 * jobs[0] < jobs[1] < 2.2 * jobs[0]
  config.rerank.update(tasks=(), pretrained='')
  assert plan.asked_of(config, stages) is None


def test_what_cannot_be_planned_is_refused_in_one_line(tmp_path):
  config = mm_embed_config.get_config()
  config.update(task='plan')
  config.plan.candidate_frames = 4
  with pytest.raises(ValueError, match='MM-Embed reads no videos') as error:
    plan.plan(config, tmp_path / 'run')
  assert '\n' not in str(error.value) and not (tmp_path / 'run').exists()


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('trains', [
    False, pytest.param(True, marks=pytest.mark.campaign)])
def test_plan_of_a_tiny_run(trains, tmp_path, capsys, monkeypatch):
  if not trains:  # that is what compiles long
    monkeypatch.setattr(embedding_plan, 'rehearse_trainings', lambda stages: [])
  assert main.main([
      'jaxret', '--config=configs/mm_embed.py', '--config.task=plan',
      '--config.before=()', '--config.starts_from=', '--config.negatives=',
      '--config.model.layers=1', '--config.vision.encoder.layers=1',
      f'--workdir={tmp_path}']) == 0
  [found] = json.loads((tmp_path / 'plan.json').read_text())['slices']
  assert list(found['programs']) == [
      *['training mm_embed'] * trains, 'embedding', 'reranking']
  assert all(program['fits'] for program in found['programs'].values())
  assert found['jobs']['embedding']['host_cores'] > 0
  assert 'v5e:2x2 | reranking' in capsys.readouterr().out


LLAVA = {
    'model_type': 'llava_next', 'image_token_index': 32000,
    'text_config': {
        'model_type': 'mistral', 'vocab_size': 32064, 'rope_theta': 1e6,
        'rms_norm_eps': 1e-5, 'max_position_embeddings': 32768,
        'sliding_window': None, 'hidden_size': 4096, 'num_hidden_layers': 32,
        'intermediate_size': 14336, 'num_attention_heads': 32,
        'num_key_value_heads': 8},
    'vision_config': {
        'hidden_size': 1024, 'intermediate_size': 4096,
        'num_hidden_layers': 24, 'num_attention_heads': 16, 'image_size': 336,
        'patch_size': 14, 'projection_dim': 768, 'vocab_size': 32000,
        'model_type': 'clip_vision_model'}}
NV_EMBED = {
    'model_type': 'nvembed', 'text_config': {
        'model_type': 'mistral', 'vocab_size': 32000, 'rope_theta': 1e4,
        'rms_norm_eps': 1e-5, 'max_position_embeddings': 32768,
        'hidden_size': 4096, 'num_hidden_layers': 32,
        'intermediate_size': 14336, 'num_attention_heads': 32,
        'num_key_value_heads': 8},
    'latent_attention_config': {
        'hidden_dim': 4096, 'num_latents_value': 512, 'num_cross_heads': 8,
        'cross_dim_head': 4096}}


def recipe(variant, directory):
  """The config of a published stage, of files that say its sizes alone."""
  config = mm_embed_config.get_config(variant)
  for name, whole in (('llava', LLAVA), ('nv_embed', NV_EMBED)):
    (directory / name).mkdir()
    (directory / name / 'config.json').write_text(json.dumps(whole))
  config.task = 'plan'
  config.model.update(llava=str(directory / 'llava'),
                      pretrained=str(directory / 'nv_embed'))
  config.rerank.pretrained = config.model.llava
  return config


def test_recipes_are_of_published_sizes(tmp_path):
  config = recipe('hard', tmp_path)
  stages = embedding_plan.open_stages(
      config, '', plan.pair_of, plan.flops)
  model = stages.own
  example = stages.examples['mm_embed']
  assert example['query_tokens'].shape == (704,)
  assert example['negative_pixels'].shape == (1, 336, 336, 3)
  assert example['candidate_length'] == 1 + 577 + 1 + 1  # with the newline
  asked = plan.asked_of(config, stages)
  assert asked[0].decoder.layers == 32 and len(asked[1]) == 10
  assert model.config.train.accumulation_steps == 16


@pytest.mark.campaign
@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('variant', ['random', 'hard', 'continual'])
def test_recipes_fit(variant, tmp_path):
  [found] = plan.plan(recipe(variant, tmp_path), tmp_path / 'run')['slices']
  assert (found['slice'], found['chips']) == ('v5e:4x4', 16)
  assert set(found['programs']) == {
      'training mm_embed', 'embedding', 'reranking'}
  for program in found['programs'].values():
    assert program['fits'], program
    assert program['gib']['total'] < tpu_slices.CHIPS['v5e'].hbm_gib
