"""BERT and XLM-R: one bidirectional encoder, two ways to count positions.

Source: Devlin et al. 2019 (arXiv 1810.04805), Conneau et al. 2020 (arXiv
1911.02116); checked against golden data.
"""
import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from jaxret.models import config_fields, encoder, model_files, pretrained

# BertConfig; XLMRobertaConfig differs in the id of padding.
FIELDS = config_fields.Fields(
    sizes={'vocab_size': 30522, 'hidden_size': 768, 'intermediate_size': 3072,
           'num_hidden_layers': 12, 'num_attention_heads': 12,
           'hidden_dropout_prob': 0.1, 'attention_probs_dropout_prob': 0.1,
           'max_position_embeddings': 512, 'type_vocab_size': 2,
           'layer_norm_eps': 1e-12},
    only={'hidden_act': ('gelu',), 'position_embedding_type': ('absolute',)},
    # The pooler is not read; neither is what predicts words.
    harmless=('tie_word_embeddings', 'directionality', 'pooler_fc_size',
              'pooler_num_attention_heads', 'pooler_num_fc_layers',
              'pooler_size_per_head', 'pooler_type'))
PADDING_ID = 1  # of XLMRobertaConfig
MODEL_TYPES = ('bert', 'xlm-roberta')


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """Sizes of a text encoder.

  first_position: of the first token; 0 in BERT. XLM-R counts from its padding
  id on, which is the position of padding: the first token has the next one.
  """
  encoder: encoder.EncoderConfig
  vocab_size: int
  max_positions: int
  types: int = 2
  first_position: int = 0

  @property
  def max_tokens(self):
    return self.max_positions - self.first_position


class Bert(nn.Module):
  """Tokens in, one hidden state per token out; the first is the text's."""
  config: BertConfig

  def setup(self):
    c = self.config
    self.embed = encoder.Embed(
        c.encoder, c.vocab_size, c.max_positions, c.types)
    self.embed_norm = c.encoder.norm()
    self.layers = encoder.stack(encoder.PostNormLayer, c.encoder)

  def embeddings(self, tokens, mask, types=None):
    """What the first layer reads, [B, T, D]; arguments as for the call."""
    c = self.config
    if tokens.shape[1] > c.max_tokens:
      raise ValueError(
          f'text encoder: got {tokens.shape[1]} tokens, it has positions for '
          f'{c.max_tokens}: cut the texts')
    positions = jnp.arange(tokens.shape[1])
    if c.first_position:
      positions = jnp.where(
          mask, jnp.cumsum(mask, 1), 0) + c.first_position - 1
    x = self.embed_norm(self.embed(tokens, positions, types))
    return encoder.regularize(self, x, c.encoder.dropout)

  def __call__(self, tokens, mask, types=None):
    """int [B, T], bool [B, T] (True = a token) -> [B, T, D]."""
    x = self.embeddings(tokens, mask, types)
    return self.layers(x, mask[:, None])[0]


def open_bert(name, **numerics):
  """Opens bert-base-multilingual-cased, xlm-roberta-base and their kind.

  Args:
    name: a directory or hub model.
    numerics: fields of EncoderConfig; `dropout` is the checkpoint's own where
      it is not given.

  Returns:
    (Checkpoint for `encoder_names.BERT`, BertConfig).

  Raises:
    ValueError: if a size is missing, or the model is of another kind.
  """
  sizes = read_config(name, **numerics)
  return pretrained.open_checkpoint(name), sizes


def read_config(name, **numerics):
  """The BertConfig of a directory or hub model; see open_bert."""
  return _sizes(*model_files.read_json(name, MODEL_TYPES), numerics)


def _sizes(path, whole, numerics):
  table = FIELDS
  if whole['model_type'] == 'xlm-roberta':
    table = FIELDS._replace(sizes={**FIELDS.sizes, 'pad_token_id': PADDING_ID})
  sizes = config_fields.read(path, whole, table)
  fields = {'norm_eps': sizes['layer_norm_eps'],
            'dropout': sizes['hidden_dropout_prob'], **numerics}
  if sizes['attention_probs_dropout_prob'] != sizes['hidden_dropout_prob']:
    raise ValueError(
        f'{path}: got attention_probs_dropout_prob = '
        f'{sizes["attention_probs_dropout_prob"]}, want that of hidden '
        f'states, {sizes["hidden_dropout_prob"]}: make them equal')
  return BertConfig(
      encoder.EncoderConfig(
          sizes['hidden_size'], sizes['intermediate_size'],
          sizes['num_hidden_layers'], sizes['num_attention_heads'],
          sizes['hidden_act'], **fields),
      sizes['vocab_size'], sizes['max_position_embeddings'],
      sizes['type_vocab_size'], sizes.get('pad_token_id', -1) + 1)
