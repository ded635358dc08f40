"""A tiny BERT at random as sentence-transformers saves it."""
import json

import numpy as np
import safetensors.numpy
import tokenizers

from tests.models import test_bert

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'dog', 'runs', 'up', '.',
         'Dog']
MODULES = [{'idx': 0, 'name': '0', 'path': '',
            'type': 'sentence_transformers.models.Transformer'},
           {'idx': 1, 'name': '1', 'path': '1_Pooling',
            'type': 'sentence_transformers.models.Pooling'},
           {'idx': 2, 'name': '2', 'path': '2_Normalize',
            'type': 'sentence_transformers.models.Normalize'}]


def save(directory, pooling=None, modules=MODULES, read=None, whole=None,
         dense=None):
  """Writes it: 8 wide, two layers, six positions.

  dense: config.json of a Dense module, which comes after the pooling then.
  """
  if dense:
    (directory / '2_Dense').mkdir()
    (directory / '2_Dense' / 'config.json').write_text(json.dumps(dense))
    safetensors.numpy.save_file(
        linear(dense.get('bias', True)),
        directory / '2_Dense' / 'model.safetensors')
    modules = [*modules[:2], {
        'path': '2_Dense', 'type': 'sentence_transformers.models.Dense'}]
  (directory / '1_Pooling').mkdir()
  for name, content in {
      'config.json': {
          'model_type': 'bert', 'vocab_size': 20, 'hidden_size': 8,
          'intermediate_size': 12, 'num_hidden_layers': 2,
          'num_attention_heads': 2, 'max_position_embeddings': 6},
      'modules.json': modules,
      '1_Pooling/config.json': pooling or {
          'word_embedding_dimension': 8, 'pooling_mode_mean_tokens': True,
          'pooling_mode_cls_token': False},
      'sentence_bert_config.json': read or {'max_seq_length': 5},
      'config_sentence_transformers.json': whole or {},
      'tokenizer_config.json': {'pad_token': '[PAD]', 'eos_token': None},
  }.items():
    (directory / name).write_text(json.dumps(content))
  tokenizer(directory)
  safetensors.numpy.save_file(
      {key: np.ascontiguousarray(0.3 * tensor)
       for key, tensor in test_bert.bert_tensors().items()},
      directory / 'model.safetensors')
  return directory


def linear(bias):
  """The tensors of a Dense module from 8 to 3."""
  random = np.random.default_rng(1)
  tensors = {'linear.weight': random.normal(size=(3, 8)).astype(np.float32)}
  if bias:
    tensors['linear.bias'] = random.normal(size=3).astype(np.float32)
  return tensors


def tokenizer(directory):
  """Words alone, [CLS] and [SEP] around a text; saved with a length."""
  fast = tokenizers.Tokenizer(tokenizers.models.WordLevel(
      {word: i for i, word in enumerate(WORDS)}, unk_token='[UNK]'))
  fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  fast.add_special_tokens(WORDS[:4])
  fast.post_processor = tokenizers.processors.TemplateProcessing(
      single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])
  fast.enable_truncation(3)
  fast.enable_padding(length=4)
  fast.save(str(directory / 'tokenizer.json'))
