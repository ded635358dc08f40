"""What an experiment changes, and where it keeps what it gives."""
import dataclasses

import pytest

from jaxret.claims import experiments, listed
from jaxret.data import closed
from tests import tiny_claims
from tests.tiny_claims import run as tiny_run

BLIM = listed.Experiment('mine', 'about', 'blim')


def config_of(root, experiment, split='validation', seed=0):
  return experiments.config_of(
      experiments.Run(experiment, seed, root), split)


def test_a_config_is_its_file_with_what_is_changed(tmp_path):
  poor = listed.Experiment(
      'poor', 'about', 'leccr', change={
          'compare': ['less'], 'captioner.train.steps': 3,
          'optim.betas': [0.5, 0.6]},
      sections={'less': {'train': {'steps': 4}}},
      uses={'data.descriptions': 'captions/texts'})
  config = config_of(tmp_path, poor, seed=2)
  assert (config.compare, config.optim.betas) == (('less',), (0.5, 0.6))
  assert config.less.train.steps == 4
  assert config.captioner.train.steps == 3 and config.seed == 2
  assert config.data.descriptions == str(
      tmp_path / 'captions' / 'seed-0' / 'texts')
  assert (config.task, config.eval.split) == (
      'train_and_evaluate', 'validation')


def test_on_test_nothing_is_trained_and_weights_are_of_validation(tmp_path):
  config = config_of(tmp_path, BLIM)
  assert config.eval.splits == ('validation',)
  config = config_of(tmp_path, BLIM, 'test')
  assert config.eval.splits == ('validation', 'test')
  assert config.task == 'evaluate'
  captions = dataclasses.replace(BLIM, config='leccr', task='caption')
  assert config_of(tmp_path, captions, 'test').task == 'caption'


def test_a_training_takes_every_field_of_the_config(tmp_path):
  faster = listed.Experiment(
      'faster', 'about', 'mm_embed', change={
          'before': ['random'], 'compare': ['other'],
          'random.optim.learning_rate': 0.5, 'random.train.steps': 3,
          'other.optim.betas': [0.5, 0.6]}, sections={'other': {}})
  config = config_of(tmp_path, faster)
  assert config.random.optim.to_dict() == {'learning_rate': 0.5}
  assert config.random.train.steps == 3
  assert config.other.optim.to_dict() == {'betas': (0.5, 0.6)}
  assert config.optim.learning_rate != 0.5


@pytest.mark.parametrize('fields, message', [
    ({'config': 'mm_embed', 'change': {'random.optim.rate': 0.5}},
     "mm_embed has no field 'random.optim.rate'"),
    ({'config': 'mm_embed', 'change': {'random.optim.learning_rate': 'fast'}},
     'mine: random.optim.learning_rate: '),
    ({'config': 'mm_embed', 'change': {'data.train.steps': 3}},
     "no field 'data.train.steps'"),
    ({'change': {'train.step': 3}},
     "mine: blim has no field 'train.step'; did you mean 'train.steps'"),
    ({'change': {'trian.steps': 3}}, "no field 'trian.steps'"),
    ({'change': {'train.steps': 'many'}}, 'mine: train.steps: '),
    ({'sections': {'tower': {}}}, 'blim has a section tower already'),
    ({'config': 'blmi'}, "no config file 'configs/blmi.py'")])
def test_a_wrong_field_is_named(tmp_path, fields, message):
  with pytest.raises(ValueError, match=message):
    config_of(tmp_path, dataclasses.replace(BLIM, **fields))


def test_a_run_keeps_what_it_says_of_each_split(tmp_path, capsys):
  found = listed.read(tiny_claims.write(tmp_path))
  run = experiments.Run(found.experiments['plain'], 0, tmp_path / 'all')
  assert not run.is_done('validation')
  tiny_run.DONE.clear()
  with closed.closed('test'):
    experiments.do(run, 'validation')
    with pytest.raises(ValueError, match='is closed'):
      experiments.do(run, 'test')
  assert run.is_done('validation') and not run.is_done('test')
  experiments.do(run, 'test')
  assert run.is_done('test')
  assert tiny_run.DONE == [('train_and_evaluate', 'plain', 'validation'),
                           ('evaluate', 'plain', 'test')]
  assert capsys.readouterr().out == ''


def test_what_others_begin_with_has_no_part_in_the_test_split(tmp_path):
  found = listed.read(tiny_claims.write(tmp_path))
  start = experiments.Run(dataclasses.replace(
      found.experiments['plain'], once=True), 0, tmp_path / 'all')
  notes = experiments.Run(found.experiments['notes'], 0, tmp_path / 'all')
  for run in (start, notes):
    assert not run.is_done('validation') and not run.is_done('test')
    experiments.do(run, 'validation')
    assert run.is_done('validation') and not run.ranks('validation').exists()
  assert start.is_done('test') and not notes.is_done('test')


def test_what_decodes_is_tried_by_the_first_seed_for_all(tmp_path):
  found = listed.read(tiny_claims.write(tmp_path))
  first, second = (experiments.Run(
      found.experiments['plain'], seed, tmp_path / 'all') for seed in (0, 1))
  experiments.do(first, 'validation')
  (first.workdir / 'media').mkdir()
  (first.workdir / 'media' / 'train.json').write_text('{"ids": "first"}')
  (first.workdir / 'media' / 'test.json').write_text('{"ids": "first"}')
  (second.workdir / 'media').mkdir(parents=True)
  (second.workdir / 'media' / 'test.json').write_text('{"ids": "own"}')
  experiments.do(second, 'validation')
  assert {path.name: path.read_text() for path in
          (second.workdir / 'media').iterdir()} == {
              'train.json': '{"ids": "first"}', 'test.json': '{"ids": "own"}'}
