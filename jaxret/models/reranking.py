"""What backbones of Qwen's answer about candidates: yes rather than no.

Q queries are read once, with what stands before a candidate; what follows is
read behind their keys and values, for many candidates at a time. Visual tokens
come from the tower beforehand. Checked against whole pairs, each alone.
"""
import jax
import jax.numpy as jnp

from jaxret.models import decoder as decoder_lib
from jaxret.models import masks


def visual_tokens(config, params, batch):
  """What the tower gives of slices, one a row, [B, P / 4, W].

  W: the decoder's width, of Qwen3-VL as often as there are DeepStack levels
  and once more. batch: patches [B, 1, P, ...], segments, coordinates.
  """
  def seen(module, batch):
    return module.visual_tokens(
        batch['patches'], batch['segments'], batch['coordinates'])
  return config.module().apply(params, batch, method=seen)


def read_queries(config, params, batch):
  """The decoder.Cache of Q prompts up to where their candidates stand.

  batch: tokens int [Q, S], length int [Q], positions int [Q, 3, S]; where
  there is anything to see visual [Q, N, W] and visual_index int [Q, S].
  """
  def read(module, batch):
    x, deep = module.placed(batch['tokens'], batch.get('visual'),
                            batch.get('visual_index'))
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    return module.decoder.prefix(
        x, jnp.swapaxes(batch['positions'], 0, 1),
        masks.causal(keys), keys, deep)[1]
  return config.module().apply(params, batch, method=read)


def log_odds(config, params, cache, batch, words):
  """log P(right word) - log P(wrong word) of candidates, float32 [R, C].

  In float32 whatever the weights are in: bfloat16 would leave few scores.

  Args:
    cache: of Q queries. words: int [2], the tokens (right, wrong).
    batch: R rows of a query each and its candidates, packed: row int [R], the
      query; start int [R], the position behind what is in the cache; tokens
      int [R, M], positions int [R, 3, M] from there, index int [R, C, L] and
      place int [R, M] as decoder.Chains has them, end int [R, C], the last
      token of each candidate; where there is anything to see visual [R, M, W]
      and visual_index int [R, M].
  """
  row, length = batch['row'], batch['index'].shape[-1]
  own = decoder_lib.Cache(
      cache.key[:, row], cache.value[:, row], cache.mask[row])
  def at_ends(module, batch):
    x, deep = module.placed(batch['tokens'], batch.get('visual'),
                            batch.get('visual_index'))
    positions = batch['start'][:, None, None] + batch['positions']
    hidden = module.decoder.suffix(
        own, x, jnp.swapaxes(positions, 0, 1), decoder_lib.Chains(
            batch['index'], batch['place'],
            decoder_lib.causal(length)[0]), deep)
    hidden = jnp.take_along_axis(hidden, batch['end'][..., None], 1)
    return module.vocabulary_terms(hidden)
  return _odds(config.module().apply(params, batch, method=at_ends), words)


def log_odds_of_pairs(config, params, batch, words):
  """The same of whole pairs, each alone, float32 [B].

  batch: as the backbone's data.<wing>.pairs pads it.
  """
  def of_last(module, batch):
    return module.vocabulary_terms(module.start(batch)[0])
  return _odds(config.module().apply(params, batch, method=of_last), words)


def _odds(terms, words):
  logits = sum(
      jnp.matmul(left.astype(jnp.float32),
                 right[:, words].astype(jnp.float32),
                 precision=jax.lax.Precision.HIGHEST)
      for left, right in terms)
  return logits[..., 0] - logits[..., 1]
