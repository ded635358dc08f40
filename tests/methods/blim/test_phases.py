"""The parts of a run as the console counts them."""
import pytest

from jaxret import main
from jaxret.methods.blim import phases

SEES = phases.READING, phases.FEATURES
SCORES = 'scoring validation', 'scoring test'


@pytest.mark.parametrize('spec, fields, wanted', [
    ('', {}, (phases.READING, phases.TOWER, phases.FEATURES, phases.TRAINING,
              *SCORES)),
    ('', {'task': 'evaluate'}, (*SEES, *SCORES)),
    ('', {'task': 'extract'}, (phases.READING, phases.TOWER, phases.FEATURES)),
    ('', {'init_from': 'another'}, (*SEES, phases.TRAINING, *SCORES)),
    # Splits in the order in which they are scored, or left out of a search.
    ('', {'task': 'evaluate', 'eval.splits': ('test', 'validation', 'train')},
     (*SEES, *SCORES, 'scoring train')),
    ('', {'task': 'evaluate', 'eval.exact_topk': 3,
          'eval.splits': ('train', 'validation', 'test')}, (*SEES, *SCORES)),
    ('folder', {}, (phases.READING, phases.TOWER, phases.FEATURES,
                    phases.TRAINING, 'scoring test')),
    ('folder_qwen3vl', {}, (phases.READING, 'scoring test')),
    ('folder_qwen3vl_train', {}, (*SEES, phases.TRAINING, 'scoring test'))])
def test_parts_are_those_of_the_config(spec, fields, wanted):
  config = main.load_config(f'configs/blim.py:{spec}')
  config.update_from_flattened_dict(fields)
  assert phases.of(config) == wanted
