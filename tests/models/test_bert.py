"""BERT and XLM-R from their files, where golden data does not reach."""
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.models import bert, encoder_names, pretrained


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def bert_tensors():
  """A tiny BERT as the hub has it: prefixed, with heads, from TensorFlow."""
  shapes = {'embeddings.word_embeddings.weight': (20, 8),
            'embeddings.position_embeddings.weight': (6, 8),
            'embeddings.token_type_embeddings.weight': (2, 8),
            'embeddings.LayerNorm.gamma': (8,),
            'embeddings.LayerNorm.beta': (8,)}
  for i in range(2):
    for name in ('attention.self.query', 'attention.self.key',
                 'attention.self.value', 'attention.output.dense'):
      shapes[f'encoder.layer.{i}.{name}.weight'] = (8, 8)
      shapes[f'encoder.layer.{i}.{name}.bias'] = (8,)
    for name in ('attention.output', 'output'):
      shapes[f'encoder.layer.{i}.{name}.LayerNorm.gamma'] = (8,)
      shapes[f'encoder.layer.{i}.{name}.LayerNorm.beta'] = (8,)
    for name, shape in (('intermediate', (12, 8)), ('output', (8, 12))):
      shapes[f'encoder.layer.{i}.{name}.dense.weight'] = shape
      shapes[f'encoder.layer.{i}.{name}.dense.bias'] = shape[:1]
  tensors = {f'bert.{key}': normal(*shape, seed=i)
             for i, (key, shape) in enumerate(shapes.items())}
  return tensors | {'cls.predictions.bias': normal(20),
                    'cls.predictions.transform.LayerNorm.gamma': normal(8),
                    'cls.seq_relationship.weight': normal(2, 8)}


BERT = {'model_type': 'bert', 'hidden_size': 8, 'intermediate_size': 12,
        'num_hidden_layers': 2, 'num_attention_heads': 2, 'hidden_act': 'gelu',
        'layer_norm_eps': 1e-12, 'vocab_size': 20, 'type_vocab_size': 2,
        'max_position_embeddings': 6, 'hidden_dropout_prob': 0.1,
        'attention_probs_dropout_prob': 0.1, 'pad_token_id': 0}


def write(directory, config, tensors):
  (directory / 'config.json').write_text(json.dumps(config))
  safetensors.numpy.save_file(tensors, directory / 'model.safetensors')
  return directory


def test_hub_names_of_bert_are_read(tmp_path):
  tensors = bert_tensors()
  checkpoint, config = bert.open_bert(write(tmp_path, BERT, tensors))
  assert config.encoder.dropout == 0.1 and config.first_position == 0
  module = bert.Bert(config)
  abstract = jax.eval_shape(
      module.init, jax.random.key(0), np.zeros((1, 2), int),
      np.ones((1, 2), bool))['params']
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 2, 'tensor': 4})
  places = sharding.shardings(mesh, {'params': {'text_encoder': abstract}})
  params, missing = pretrained.load(
      checkpoint, encoder_names.BERT, {'text_encoder': abstract},
      places['params'])
  assert not missing and set(params) == {'text_encoder'}
  found = params['text_encoder']
  np.testing.assert_array_equal(
      found['layers']['mlp_norm']['scale'][1],
      tensors['bert.encoder.layer.1.output.LayerNorm.gamma'])
  np.testing.assert_array_equal(
      found['layers']['attention']['o']['kernel'][0],
      tensors['bert.encoder.layer.0.attention.output.dense.weight'].T)
  with pytest.raises(ValueError, match='got 7 tokens, it has positions for 6'):
    jax.eval_shape(module.apply, {'params': found}, np.zeros((1, 7), int),
                   np.ones((1, 7), bool))


@pytest.mark.parametrize('change, message', [
    ({'model_type': 'roberta'}, "got model_type 'roberta', want bert or xlm-"),
    ({'hidden_act': 'relu'}, "got hidden_act = 'relu', want 'gelu'"),
    ({'position_embedding_type': 'relative_key'}, "want 'absolute'"),
    ({'attention_probs_dropout_prob': 0.2}, 'want that of hidden states, 0.1'),
    ({'vocab_size': '20'}, "got vocab_size = '20', want a whole number"),
])
def test_other_text_encoders_are_refused_in_one_line(
    tmp_path, change, message):
  config = {key: value for key, value in (BERT | change).items()
            if value is not None}
  with pytest.raises(ValueError, match=message) as caught:
    bert.open_bert(write(tmp_path, config, bert_tensors()))
  assert '\n' not in str(caught.value)


def test_xlmr_counts_positions_from_its_padding_id(tmp_path):
  config = BERT | {'model_type': 'xlm-roberta', 'pad_token_id': 1}
  _, found = bert.open_bert(write(tmp_path, config, bert_tensors()))
  assert (found.first_position, found.max_tokens) == (2, 4)
