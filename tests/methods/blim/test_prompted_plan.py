"""Planning to score with models that continue prompts: counts and programs."""
import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from configs import blim as blim_config
from jaxret import generator, sharding, tpu_slices
from jaxret.methods.blim import plan, prompted_plan
from jaxret.models import decoder
from jaxret.models.qwen2_vl import vision
from jaxret.scoring.likelihood import abstract, kernels
from tests import published_configs, tiny_prompted

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no libtpu, the TPU compiler: pip install -e '.[tpu]'")


def make_config(backbone='qwen3_vl', **fields):
  config = blim_config.get_config('folder_qwen3vl')
  config.update(task='plan')
  config.model.update(
      backbone=backbone, pretrained=str(GOLDEN / 'qwen3_vl' / 'model'))
  config.plan.topology = 'v5e:4x4'
  config.update_from_flattened_dict(fields)
  return config


@pytest.mark.parametrize('frames, kind', [(6, 'video'), (1, 'image')])
def test_a_prompt_shows_what_the_plan_says(frames, kind):
  model = prompted_plan.build(make_config(
      **{'plan.frames': frames, 'plan.px': (96, 64)}))
  example = {name: array[0] for name, array in model.example.items()}
  # By tokens of 32 x 32 pixels, two frames at a time; images are enlarged.
  slices = 3 if kind == 'video' else 1
  counts = np.bincount(example['segments'].ravel())[1:]
  assert len(counts) == slices and len(set(counts)) == 1
  visual = counts.sum() // 4
  assert (example['visual_index'] >= 0).sum() == visual
  assert visual == (3 * 6 if kind == 'video' else 10 * 7)
  assert example['length'] == len(example['tokens']) > visual + 10
  assert {one.dtype for one in jax.tree.leaves(model.params)} == {
      np.dtype('bfloat16')}
  assert 'embed' in model.params['params']['decoder']


def test_flops_are_those_of_prompts_and_of_texts_behind_them():
  fields = {'plan.videos': 3, 'plan.texts': 5, 'plan.caption_tokens': 4,
            'plan.frames': 4, 'plan.px': (64, 64)}
  model = prompted_plan.build(make_config(**fields))
  c = model.sizes.decoder
  key, logits = 4 * c.layers * c.heads * c.head_width, 2 * c.width * 576
  token = 2 * sum(leaf.size for path, leaf in sharding.flatten(
      model.params['params']['decoder']['layers']).items()
                  if path.endswith('/kernel'))
  length = int(model.example['length'][0])
  unseen = int((model.example['visual_index'] < 0).sum())
  def read(start, count):
    return sum(token + key * (start + k + 1) for k in range(count))
  def behind(prefix):
    return 5 * (read(prefix, 4) + 4 * logits) + logits
  patches = (model.example['segments'] > 0).sum()
  seen = patches * vision.flops_per_patch(model.sizes.vision, patches // 2)
  want = 3 * (seen + read(0, length) + behind(length)) + read(
      0, unseen) + behind(unseen)
  assert prompted_plan.count_job(model)['scoring'] == pytest.approx(want)


def trained_config(**fields):
  config = blim_config.get_config('folder_qwen3vl_train')
  config.task = 'plan'
  config.model.pretrained = str(GOLDEN / 'qwen3_vl' / 'model')
  config.plan.update(frames=4, px=(64, 64))
  config.update_from_flattened_dict(fields)
  return config


def test_a_trained_model_is_planned_with_its_head_and_its_clips():
  fields = {'plan.longest_caption_tokens': 9, 'plan.train_texts': 10,
            'train.epochs': 2.0, 'plan.caption_tokens': 9, 'plan.videos': 3,
            'plan.texts': 5}
  model = prompted_plan.build(trained_config(**fields))
  example, constants = model.training
  assert example['labels'].shape == (10,)  # with the one that ends it
  clips = model.config.model.clips
  assert constants['video_vocabulary'].shape == (1, clips, model.sizes.width)
  assert 'visual_head' in model.params['params'] and 'lora' in model.params
  job = prompted_plan.count_job(model)
  batch = {name: np.asarray(value)[None] for name, value in example.items()}
  assert job['training'] == pytest.approx(
      20 * model.method.train_flops(batch))
  # The other direction: each request once, clips behind it, priors as well.
  alone = prompted_plan.count_job(model._replace(method=None))['scoring']
  c, prefix = model.sizes.decoder, int(example['text_prefix_length'])
  def read(tokens):
    return (tokens * decoder.flops_per_token(c)
            + decoder.attention_flops(c, tokens))
  pair = read(prefix + clips - 1) - read(prefix) + (
      2 * clips * model.sizes.width)
  assert job['scoring'] - alone == pytest.approx(
      5 * read(prefix) + 3 * (5 + 5) * pair)


@pytest.mark.campaign
@pytest.mark.slow
@needs_libtpu
def test_plan_of_a_tiny_training(tmp_path):
  config = trained_config(**{'plan.topology': 'v5e:2x2'})
  [found] = prompted_plan.plan(config, tmp_path)['slices']
  assert list(found['programs']) == [
      'training step', 'prompts', 'tile of texts', 'requests',
      'tile of clips']
  assert all(program['fits'] for program in found['programs'].values())
  assert set(found['jobs']) == {'training', 'scoring'}


def test_rows_are_as_many_as_are_read_together():
  model = prompted_plan.build(make_config())
  mesh = sharding.make_mesh({'fsdp': 8})
  assert prompted_plan.rows_of(model, mesh) == 32
  model.config.eval.rows = 3
  assert prompted_plan.rows_of(model, mesh) == 8
  long = model._replace(example={'tokens': np.zeros((1, 20000))})
  long.config.eval.rows = 99
  assert prompted_plan.rows_of(long, mesh) == 16  # 13, on 8 devices


@pytest.mark.slow
def test_prompts_are_read_by_the_program_that_is_planned():
  model, mesh = tiny_prompted.qwen3_vl(), tiny_prompted.one_device()
  prompts = [model.reader(tiny_prompted.asked(item), chat=True)
             for item in tiny_prompted.ITEMS[:2]]
  batch = model.reader.pad(prompts, (
      64, *np.max([model.reader.bucket(one) for one in prompts], 0)[1:]))
  batch = jax.tree.map(functools.partial(sharding.constant, mesh), batch)
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding), batch)
  weights = sharding.abstract(mesh, model.params)
  lowered = abstract.prompts(model.continuation, weights, mesh, shapes)
  program = lowered.compile()
  last, cache, position = program(model.params, batch)
  outputs = abstract.outputs(lowered, program)
  lowered = abstract.next_token(
      model.continuation, weights, mesh, outputs[0])
  first = lowered.compile()(model.params, last)
  with jax.set_mesh(mesh):
    want = kernels.prefix(model.continuation, model.params, batch)
  for got, wanted in zip(jax.tree.leaves((first, cache, position)),
                         jax.tree.leaves(want)):
    np.testing.assert_allclose(got, wanted, atol=1e-5)
  assert generator.continuation(model.config) is model.continuation


@pytest.mark.parametrize('fields, said', [
    ({'model.backbone': 'qwen2_vl'}, 'is of a qwen3_vl: set model.backbone='),
    ({'model.pretrained': ''}, 'the config names no weights'),
    ({'model.lora.targets': ('vision/.*',), 'eval.zero_shot': False},
     'of the tower'),
    ({'plan.px': (4, 1000)}, 'plan.px: its video has 8000x32 pixels'),
    ({'plan.topology': 'a100:8'}, 'its kind is one of v5e')])
def test_what_cannot_be_planned_is_refused_in_one_line(fields, said, tmp_path):
  with pytest.raises(ValueError, match=said) as error:
    plan.plan(make_config(**fields), tmp_path / 'run')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('published, parameters', [
    (published_configs.QWEN3_VL_8B, 8_767_123_696),
    pytest.param(published_configs.QWEN25_VL_7B, 8_292_166_656,
                 marks=pytest.mark.campaign)],
    ids=('qwen3_vl_8b', 'qwen25_vl_7b'))
def test_prompts_and_a_tile_of_texts_fit(tmp_path, published, parameters):
  config = make_config(published['model_type'], **{
      'model.pretrained': published_configs.write(tmp_path, published)})
  [found] = plan.plan(config, tmp_path / 'run')['slices']
  assert list(found['programs']) == ['prompts', 'tile of texts']
  weights = 2 * parameters / found['chips'] / tpu_slices.GIB
  for program in found['programs'].values():
    assert program['fits'], program
    assert program['gib']['weights'] == pytest.approx(weights, rel=0.02)
  rows, columns = found['programs']['tile of texts']['size']
  assert (rows, columns) == (32, 64)
  assert found['programs']['tile of texts']['largest'][1] >= columns
