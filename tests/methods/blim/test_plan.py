"""Planning without a TPU: counts against loops, fits against the compiler."""
import importlib.util
import json
import math
import re

import jax
import pytest

from configs import blim as blim_config
from jaxret import main, rehearsal, tpu_slices
from jaxret.data import sets
from jaxret.methods.blim import plan
from jaxret.methods.blim import prompts as prompts_lib
from jaxret.models import splash

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no libtpu, the TPU compiler: pip install -e '.[tpu]'")


@pytest.mark.parametrize('name, question', [
    ('msrvtt', 11), ('didemo', 12), ('activitynet', 12), ('lsmdc', 13)])
def test_words_are_as_many_as_tokens_of_qwen2(name, question):
  """The lengths of the authors' sequences (spec §2), without a tokenizer."""
  prompts = prompts_lib.BlimPrompts(
      rehearsal.word_tokenizer(7), sets.instruction(name), 256)
  for length in (1, 30):
    words = plan.caption(length).text
    assert len(prompts.vtg_prefix) == 14 + 256 + question
    assert len(prompts.vtg_suffix(words)) == length + 2
    assert len(prompts.tvg_prefix(words)) == 28 + length
  assert prompts.prior_prefix_length == 21


@pytest.mark.parametrize('variant, per_pair', [
    ('msrvtt', 0.21e12), ('activitynet', 0.91e12)])
def test_full_size_is_that_of_the_config_and_costs_what_the_spec_counts(
    variant, per_pair):
  config = blim_config.get_config(variant)
  config.eval.splits = ('test',)
  model = plan.build(config)
  leaves = jax.tree.leaves(model.params['params']['decoder'])
  assert sum(math.prod(leaf.shape) for leaf in leaves) == 7_615_616_512
  pairs = config.plan.videos * config.plan.texts
  assert plan.count_job(model)['scoring'] / pairs == pytest.approx(
      per_pair, rel=0.05)


def test_training_flops_are_of_all_captions_and_epochs():
  config = blim_config.get_config('msrvtt')
  flops = plan.count_job(plan.build(config))['training']
  config.train.epochs *= 2
  config.plan.train_texts *= 3
  assert plan.count_job(plan.build(config))['training'] == pytest.approx(
      6 * flops)


@pytest.mark.parametrize('fields, message', [
    ({'plan.topology': 'a100:8'}, 'its kind is one of v5e, v5p, v6e'),
    ({'plan.topology': ' '}, 'names 0 slices'),
    ({'plan.chips_per_hour_price': '1,2'}, 'one price for all or one for each'),
    ({'plan.chips_per_hour_price': 'cheap'}, 'is no number'),
    ({'model.vocab_size': 0}, 'model.vocab_size is 0'),
    ({'method': 'dual_encoder'}, "got method 'dual_encoder', wanted 'blim'")])
def test_what_cannot_be_planned_is_refused_in_one_line(
    fields, message, tmp_path):
  config = blim_config.get_config()
  config.update_from_flattened_dict(fields)
  with pytest.raises(ValueError, match=message) as error:
    plan.plan(config, tmp_path / 'run')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@needs_libtpu
def test_plan_of_the_default_config(tmp_path, capsys):
  assert main.main([
      'jaxret', '--config=configs/blim.py', '--config.task=plan',
      '--config.model.layers=1', '--config.plan.chips_per_hour_price=2',
      f'--workdir={tmp_path}']) == 0
  found = json.loads((tmp_path / 'plan.json').read_text())['slices'][0]
  table = capsys.readouterr().out
  assert found['slice'] == 'v5e:2x2' and found['chips'] == 4
  for name, program in found['programs'].items():
    assert program['fits'] and re.search(rf'v5e:2x2 +\| {name} ', table)
    gib = dict(program['gib'])
    assert gib.pop('total') == pytest.approx(sum(gib.values()), abs=0.01)
  for job in found['jobs'].values():
    assert job['dollars'] == pytest.approx(job['hours'] * 4 * 2)


@needs_libtpu
@pytest.mark.slow
def test_the_7b_compiles_with_the_kernel_for_attention(monkeypatch):
  """Training step, prefixes and tiles, each chip with its own rows."""
  config, used = blim_config.get_config('msrvtt'), []
  config.plan.update(topology='v5e:4x4', largest=False)
  config.model.attention = 'splash'
  def attend(*args, given=splash.attend, **kwargs):
    used.append(args[0].shape)
    return given(*args, **kwargs)
  monkeypatch.setattr(splash, 'attend', attend)
  part, = plan.rehearse(
      plan.build(config), tpu_slices.open_all(config.plan), {})
  assert len(part['programs']) == 5 and used
  for program in part['programs'].values():
    assert program['fits'] and program['gib']['temporaries'] < 3


@needs_libtpu
@pytest.mark.slow
def test_training_step_and_scoring_tiles_of_the_7b_fit():
  """The recipe of MSR-VTT as shipped, on the slices that it recommends."""
  config = blim_config.get_config('msrvtt')
  assert config.plan.topology == 'v5e:4x4,v5p:2x2x2'
  assert 'v5e:4x4' in blim_config.__doc__ and 'v5p:2x2x2' in blim_config.__doc__
  config.plan.largest = False
  model = plan.build(config)
  for part in plan.rehearse(model, tpu_slices.open_all(config.plan), {}):
    assert len(part['programs']) == 5
    assert all(program['fits'] for program in part['programs'].values())
    assert part['accumulation_steps'] == config.train.accumulation_steps
    # Weights are split over all chips, and gathered a layer at a time.
    gib = part['programs']['training step']['gib']
    weights = 2 * 7_615_616_512 / part['chips'] / tpu_slices.GIB
    assert gib['weights'] == pytest.approx(weights, rel=0.02)
    assert gib['temporaries'] < 2
    # Each chip keeps the keys and values of its own videos.
    cache = 2 * 28 * 32 * 281 * 4 * 128 * 2 / part['chips'] / tpu_slices.GIB
    assert part['programs']['caption tile']['gib']['caches'] < 1.1 * cache
