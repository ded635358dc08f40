"""Two linear maps, trained by a hinge that no other method has."""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxret.methods import base

BUCKETS = 64


class Examples:
  """The pairs of a Split as arrays: mean colour [3], words [BUCKETS]."""

  def __init__(self, split):
    self.ids = [text.id for text in split.texts]
    self.constants = {}
    self.colours = [image.image.mean((0, 1)) / 255 for image in split.videos]
    self.words = [bag(text.text) for text in split.texts]
    self.kinds = [text.text for text in split.texts]

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    return {'colour': self.colours[index].astype(np.float32),
            'words': self.words[index],
            'kind': np.int32(sum(self.kinds[index].encode()))}


def bag(text):
  counts = np.zeros(BUCKETS, np.float32)
  for word in text.split():
    counts[sum(word.encode()) % BUCKETS] += 1
  return counts


def init(width, key):
  keys = jax.random.split(key)
  return {'params': {'matcher': {
      'colour': jax.random.normal(keys[0], (3, width)),
      'words': jax.random.normal(keys[1], (BUCKETS, width)),
      'bias': jnp.zeros(width)}}}


def scores(params, colours, words):
  """[T, V] from colours [V, 3] and bags of words [T, BUCKETS]."""
  p = params['params']['matcher']
  visual = jnp.tanh(colours @ p['colour'] + p['bias'])
  return (words @ p['words']) @ visual.T


def loss(margin, params, constants, batch, key):
  """A hinge over the pictures of another colour; see base.Method."""
  found = scores(params, batch['colour'], batch['words'])
  other = batch['kind'][:, None] != batch['kind'][None]
  hinge = jnp.maximum(0, margin + found - jnp.diagonal(found)[:, None])
  value = jnp.where(other, hinge, 0).sum(1) / jnp.maximum(other.sum(1), 1)
  return value, {'hinge_share': jnp.mean(value > 0)}


def method(config, tokenizer=None):
  return base.Method(
      name='matcher', init=functools.partial(init, config.model.width),
      load=None, loss=functools.partial(loss, config.loss.margin),
      examples=Examples, trainable=('.*',),
      train_flops=lambda batch: 6.0 * batch['words'].size * config.model.width,
      tokens=lambda batch: int(batch['words'].sum()))
