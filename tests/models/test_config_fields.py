"""Tables of a foreign class's fields: defaults, types, values, refusals."""
import pytest

from jaxret.models import config_fields

FIELDS = config_fields.Fields(
    sizes={'width': 8, 'eps': 0.1, 'tied': False, 'name': 'x', 'head': None},
    only={'act': ('silu', 'gelu'), 'bias': (False, None), 'drop': (0.0,)},
    optional=('width',), harmless=('note',))


def read(part, name=''):
  return config_fields.read('config.json', part, FIELDS, name)


def test_what_is_absent_is_the_default():
  assert read({}) == {'width': 8, 'eps': 0.1, 'tied': False, 'name': 'x',
                      'head': None, 'act': 'silu', 'bias': False, 'drop': 0.0}
  found = read({'width': 4, 'eps': 1, 'tied': True, 'head': 3, 'act': 'gelu',
                'bias': None, 'drop': 0, 'note': 'new', 'torch_dtype': 'x'})
  assert (found['width'], found['eps'], found['tied'], found['head'],
          found['act'], found['bias']) == (4, 1, True, 3, 'gelu', None)
  assert read({'width': None})['width'] is None


@pytest.mark.parametrize('part, message', [
    ({'act': 'relu'}, "got act = 'relu', want 'silu' or 'gelu', all that is"),
    ({'bias': True}, 'got bias = True, want False or None'),
    ({'bias': 0}, 'got bias = 0, want False'),
    ({'drop': False}, 'got drop = False, want 0.0'),
    ({'width': 8.5}, 'got width = 8.5, want a whole number'),
    ({'width': '8'}, "got width = '8', want a whole number"),
    ({'width': True}, 'got width = True, want a whole number'),
    ({'eps': float('inf')}, 'got eps = inf, want a number'),
    ({'eps': None}, 'got eps = None, want a number'),
    ({'tied': 1}, 'got tied = 1, want bool'),
    ({'name': 3}, 'got name = 3, want str'),
    ({'qk_norm': False}, 'got qk_norm = False, a field that is not known here'),
    ({'pruned_heads': {'0': [1]}}, 'got pruned_heads'),
    ({'is_decoder': True}, 'got is_decoder = True, want False'),
    ({'layer_types': ['full_attention', 'chunked_attention']},
     "got layer_types = 'chunked_attention', want 'full_attention'")])
def test_other_values_are_refused_by_name(part, message):
  for name, where in (('', 'config.json: got'),
                      ('text', 'config.json: text: got')):
    with pytest.raises(ValueError, match=message) as caught:
      read(part, name)
    assert str(caught.value).startswith(where)
    assert '\n' not in str(caught.value)


def test_long_values_are_cut_in_messages():
  with pytest.raises(ValueError) as caught:
    read({'table': list(range(10000))})
  assert len(str(caught.value)) < 300


def test_a_section_is_a_section():
  assert config_fields.section('x', {'a': {'b': 1}}, 'a') == {'b': 1}
  assert config_fields.section('x', {'a': None}, 'a') == {}
  with pytest.raises(ValueError, match='got a = 3, want a section of fields'):
    config_fields.section('x', {'a': 3}, 'a')
