"""Numbers that mean nothing are refused by field; all of ours pass."""
import math

import pytest

from jaxret import config_files, config_ranges

METHODS = ('blim', 'unite', 'mm_embed', 'leccr')


@pytest.mark.parametrize('method', METHODS)
def test_every_variant_passes(method):
  path = config_files.find(f'configs/{method}.py')
  variants = config_files.variants(path)
  for variant in variants:
    config_ranges.check(config_files.load(f'{path}:{variant}'))
  assert len(variants) > 5


@pytest.mark.parametrize('method, field, number', [
    ('blim', 'optim.learning_rate', -1.0),
    ('blim', 'optim.learning_rate', math.nan),
    ('blim', 'optim.learning_rate', math.inf),
    ('blim', 'tower.optim.weight_decay', -0.1),
    ('blim', 'optim.gradient_clip_norm', -1.0),
    ('blim', 'optim.eps', 0.0), ('blim', 'optim.betas', (0.9, 1.0)),
    ('blim', 'train.batch_size', 0), ('blim', 'train.epochs', -1.0),
    ('blim', 'model.lora.dropout', 1.0), ('blim', 'eval.alpha', (0.0, 1.5)),
    ('blim', 'eval.topk', -1), ('blim', 'eval.rows', 0),
    ('blim', 'eval.max_padding', -0.5), ('blim', 'mesh.data', 0),
    ('blim', 'seed', -1), ('blim', 'model.layers', -3),
    ('unite', 'loss.temperature', -1.0), ('unite', 'loss.temperature', 0.0),
    ('leccr', 'model.temperature', 0.0),
    ('leccr', 'loss.softened_alpha', 2.0),
    ('unite', 'loss.false_negative_margin', 2.5),
    ('unite', 'loss.false_negative_margin', -0.1),
    ('unite', 'loss.matryoshka_dims', (64, 0)),
    ('mm_embed', 'loss.matryoshka_weights', (1.0, 0.0)),
    ('mm_embed', 'loss.distillation_temperature', 0.0),
    ('mm_embed', 'loss.distillation_weight', -1.0),
    ('unite', 'loss.graded_temperature', 0.0),
    ('mm_embed', 'mine.negatives', 0),
    ('unite', 'eval.truncate_dim', -1),
    ('mm_embed', 'loss.temperature', math.nan)])
def test_a_number_that_means_nothing_is_refused_by_field(
    method, field, number):
  config = config_files.load(str(config_files.find(f'configs/{method}.py')))
  config_ranges.check(config)
  with config.unlocked():
    config.update_from_flattened_dict({field: number})
  with pytest.raises(ValueError, match=f'config.{field} is ') as caught:
    config_ranges.check(config)
  assert '\n' not in str(caught.value)


def test_zero_means_none_where_a_config_says_so():
  config = config_files.load(str(config_files.find('configs/blim.py')))
  config.optim.gradient_clip_norm = 0.0
  config.eval.topk, config.data.limit_s = 0, 0.0
  config_ranges.check(config)
