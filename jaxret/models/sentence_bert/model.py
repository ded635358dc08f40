"""A text encoder, one vector pooled of its tokens, made a unit vector.

Source: Sentence-BERT (arXiv 1908.10084).
"""
import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxret.models import bert
from jaxret.models import decoder as decoder_lib

POOLINGS = ('mean', 'first', 'last', 'max')
ACTIVATIONS = {'identity': lambda x: x, 'tanh': jnp.tanh}


class Dense(NamedTuple):
  """A linear layer behind the pooling; activation: one of ACTIVATIONS."""
  width: int
  bias: bool = True
  activation: str = 'identity'


@dataclasses.dataclass(frozen=True)
class SentenceBertConfig:
  """Sizes, and how texts are read and pooled.

  pooling: of the hidden states of a text's tokens, one of POOLINGS. max_tokens:
  that are read. lower: whether texts are lower-cased first. prompt: what stands
  before a text for which nothing else is said. dense: None for no such layer.
  """
  encoder: bert.BertConfig
  pooling: str
  max_tokens: int
  lower: bool = False
  prompt: str = ''
  dense: Dense | None = None
  name: str = 'sentence_bert'

  @property
  def width(self):
    return self.dense.width if self.dense else self.encoder.encoder.width

  def module(self):
    return SentenceBert(self)


class SentenceBert(nn.Module):
  """Texts in, one unit vector per row out."""
  config: SentenceBertConfig

  def setup(self):
    c = self.config
    self.text_encoder = bert.Bert(c.encoder)
    if c.dense:
      self.text_head = c.encoder.encoder.dense(c.dense.width, c.dense.bias)

  def __call__(self, batch):
    """Unit vectors float32 [B, D]; batch: tokens int [B, T], length int [B]."""
    mask = decoder_lib.length_mask(batch['length'], batch['tokens'].shape[1])
    hidden = self.text_encoder(batch['tokens'], mask).astype(jnp.float32)
    pooled = pool(hidden, mask, self.config.pooling)
    if self.config.dense:
      dense = self.text_head(pooled.astype(self.config.encoder.encoder.dtype))
      pooled = ACTIVATIONS[self.config.dense.activation](
          dense.astype(jnp.float32))
    norm = jnp.sqrt(jnp.sum(jnp.square(pooled), -1, keepdims=True))
    return pooled / jnp.maximum(norm, 1e-12)


def pool(hidden, mask, pooling):
  """[B, T, D] over True in bool [B, T], which come first -> [B, D]."""
  if pooling == 'first':
    return hidden[:, 0]
  if pooling == 'last':
    return hidden[jnp.arange(len(hidden)), mask.sum(1) - 1]
  mask = mask[..., None]
  if pooling == 'max':
    return jnp.where(mask, hidden, -jnp.inf).max(1)
  return jnp.where(mask, hidden, 0).sum(1) / mask.sum(1)


def init(config, key):
  """Random parameters {'params': ...}."""
  return config.module().init(key, {
      'tokens': jnp.zeros((1, 2), int), 'length': jnp.ones(1, int)})
