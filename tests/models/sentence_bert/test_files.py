"""sentence-transformers' directories: what is read, refused, embedded."""
import numpy as np
import pytest

import jaxret
from jaxret.data import types
from jaxret.models.sentence_bert import files
from tests import tiny_sentence_bert as tiny

MEAN = {'word_embedding_dimension': 8, 'pooling_mode_mean_tokens': True}


@pytest.mark.parametrize('pooling, want', [
    ({'pooling_mode_mean_tokens': True}, 'mean'),
    ({'pooling_mode_mean_sqrt_len_tokens': True}, 'mean'),
    ({'pooling_mode_cls_token': True}, 'first'),
    ({'pooling_mode_lasttoken': True}, 'last'),
    ({'pooling_mode_max_tokens': True}, 'max'),
    ({'pooling_mode': 'cls', 'embedding_dimension': 8}, 'first')])
def test_poolings(tmp_path, pooling, want):
  config = files.read_config(tiny.save(tmp_path, pooling))
  assert (config.pooling, config.width, config.max_tokens) == (want, 8, 5)


def test_what_is_read_besides(tmp_path):
  config = files.read_config(tiny.save(
      tmp_path, modules=tiny.MODULES[:2],
      read={'max_seq_length': None, 'do_lower_case': True},
      whole={'prompts': {'query': 'a '}, 'default_prompt_name': 'query'}))
  assert (config.max_tokens, config.lower, config.prompt) == (6, True, 'a ')


@pytest.mark.parametrize('fields, message', [
    ({'pooling': {**MEAN, 'pooling_mode_cls_token': True}}, 'want one of mean'),
    ({'pooling': {**MEAN, 'pooling_mode_mean_tokens': False}}, 'want one of'),
    ({'pooling': {'pooling_mode': 'weightedmean'}}, 'want one of mean'),
    ({'pooling': {**MEAN, 'include_prompt': False}}, 'got include_prompt'),
    ({'pooling': {**MEAN, 'word_embedding_dimension': 9}}, 'want that of'),
    ({'modules': tiny.MODULES[:1]}, 'got Transformer; want'),
    ({'modules': [*tiny.MODULES[:2], {
        'type': 'sentence_transformers.models.LSTM', 'path': '2'}]},
     'got Transformer, Pooling, LSTM; want'),
    ({'dense': {'in_features': 9, 'out_features': 3}}, 'got in_features = 9'),
    ({'dense': {'in_features': 8, 'out_features': 0}}, 'and out_features = 0'),
    ({'dense': {'in_features': 8, 'out_features': 3, 'use_residual': True}},
     'got use_residual = True'),
    ({'dense': {'in_features': 8, 'out_features': 3, 'activation_function':
                'torch.nn.modules.activation.GELU'}}, 'GELU'),
    ({'modules': {}}, 'want a list of modules'),
    ({'read': {'max_seq_length': 7}}, 'got max_seq_length = 7, want 3 to'),
    ({'read': {'max_seq_length': 5, 'stride': 2}}, 'got stride = 2'),
    ({'read': {'max_seq_length': 7}}, 'got max_seq_length = 7, want'),
])
def test_what_is_refused(tmp_path, fields, message):
  with pytest.raises(ValueError) as error:
    files.read_config(tiny.save(tmp_path, **fields))
  assert message in str(error.value) and '\n' not in str(error.value)
  assert str(error.value).startswith(str(tmp_path))


@pytest.mark.parametrize('bias, activation', [
    (True, 'torch.nn.modules.linear.Identity'),
    (False, 'torch.nn.modules.activation.Tanh')])
def test_a_linear_layer_behind_the_pooling(tmp_path, bias, activation):
  model = jaxret.load(tiny.save(tmp_path, dense={
      'in_features': 8, 'out_features': 3, 'bias': bias,
      'activation_function': activation}))
  assert model.width == 3
  linear = tiny.linear(bias)
  found = model.encode('a dog runs', show_progress=False)
  state = pooled(model, 'a dog runs') @ linear['linear.weight'].T
  state += linear.get('linear.bias', 0)
  want = np.tanh(state) if 'Tanh' in activation else state
  np.testing.assert_allclose(found, want / np.linalg.norm(want), atol=1e-6)


def pooled(model, text):
  """The mean of the states of a text's tokens, no unit vector."""
  module, inputs = model.config.module(), model.reader(types.Item('a', text))
  batch = model.reader.pad([inputs], (len(inputs.tokens),))
  hidden = module.apply(model.params, batch['tokens'], np.ones(
      batch['tokens'].shape, bool), method=lambda self, *given:
          self.text_encoder(*given))
  return np.asarray(hidden[0]).mean(0)


def test_a_bert_without_modules_is_refused(tmp_path):
  tiny.save(tmp_path)
  (tmp_path / 'modules.json').unlink()
  with pytest.raises(ValueError, match='which says how a text encoder is pool'):
    jaxret.load(tmp_path)


def test_embeddings_do_not_depend_on_padding(tmp_path):
  """The tokenizer's own padding and length, 4 and 3, count for nothing."""
  model = jaxret.load(tiny.save(tmp_path), trim_text=True)
  short, long = model.encode(['dog', 'a dog runs up'], show_progress=False)
  np.testing.assert_allclose(np.linalg.norm([short, long], axis=1), 1, 1e-6)
  np.testing.assert_allclose(
      model.encode('dog', show_progress=False), short, atol=1e-6)
  np.testing.assert_allclose(  # cut to five tokens, the end one of them
      model.encode('a dog runs . . .', show_progress=False),
      model.encode('a dog runs', show_progress=False), atol=1e-6)
  assert np.abs(short - long).max() > 1e-3
