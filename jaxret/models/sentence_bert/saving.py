"""The files of a text encoder as sentence-transformers has them.

`files.read_config` is the way back.
"""
POOLING, DENSE, NORMALIZE = '1_Pooling', '2_Dense', '3_Normalize'
_PACKAGE = 'sentence_transformers.models.'


def files_of(bert, width, max_tokens):
  """{name: contents} for the first token of a Bert, projected to `width`.

  bert: a BertConfig that counts positions from 0; max_tokens: that are read of
  a text.
  """
  hidden = bert.encoder.width
  kinds = (('', 'Transformer'), (POOLING, 'Pooling'), (DENSE, 'Dense'),
           (NORMALIZE, 'Normalize'))
  return {
      'config.json': _config(bert),
      'modules.json': [
          {'idx': number, 'name': str(number), 'path': path,
           'type': _PACKAGE + kind}
          for number, (path, kind) in enumerate(kinds)],
      # Prompts of the base, if it has some, are none of what was trained.
      'config_sentence_transformers.json': {
          'prompts': {}, 'default_prompt_name': None,
          'similarity_fn_name': 'cosine'},
      'sentence_bert_config.json': {
          'max_seq_length': max_tokens, 'do_lower_case': False},
      f'{POOLING}/config.json': {
          'word_embedding_dimension': hidden, 'pooling_mode_cls_token': True,
          'pooling_mode_mean_tokens': False, 'pooling_mode_max_tokens': False,
          'pooling_mode_mean_sqrt_len_tokens': False},
      f'{DENSE}/config.json': {
          'in_features': hidden, 'out_features': width, 'bias': True,
          'activation_function': 'torch.nn.modules.linear.Identity'}}


def _config(bert):
  c = bert.encoder
  return {
      'architectures': ['BertModel'], 'model_type': 'bert',
      'vocab_size': bert.vocab_size, 'hidden_size': c.width,
      'intermediate_size': c.mlp_width, 'num_hidden_layers': c.layers,
      'num_attention_heads': c.heads, 'hidden_act': c.activation,
      'hidden_dropout_prob': c.dropout,
      'attention_probs_dropout_prob': c.dropout,
      'max_position_embeddings': bert.max_positions,
      'type_vocab_size': bert.types, 'layer_norm_eps': c.norm_eps,
      'pad_token_id': 0, 'position_embedding_type': 'absolute'}
