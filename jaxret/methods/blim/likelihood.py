"""What likelihood scoring needs of BLiM's model, as functions and numbers."""
import functools

import jax.numpy as jnp

from jaxret.models import decoder as decoder_lib
from jaxret.scoring.likelihood import kernels


@functools.lru_cache
def likelihood_model(vlm):
  """What scoring needs of the model; cached, so that `jit` compiles once."""
  module = vlm.module()

  def apply(method):
    return lambda params, *args: module.apply(params, *args, method=method)

  def visual_prefix(params, tokens, features, lengths):
    x = module.apply(
        params, tokens, apply('visual_tokens')(params, features),
        method='embed')
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return apply('prefix')(params, x, positions, lengths)

  def text_prefix(params, tokens, positions, lengths):
    x = apply('embed')(params, tokens)
    return apply('prefix')(params, x, positions, lengths)

  def sequence(params, tokens, visual, features, lengths, keys):
    visual = apply({'tokens': 'visual_tokens', 'clips': 'clip_tokens'}[visual])
    x = module.apply(params, tokens, visual(params, features), method='embed')
    return apply('hidden')(params, x, lengths, keys)

  return kernels.LikelihoodModel(
      visual_prefix, text_prefix, apply('suffix'),
      lambda params, tokens: module.apply(
          params, tokens, method=lambda m, t: m.decoder.embed_tokens(t)),
      apply('clip_tokens'), apply('vocabulary_terms'), apply('clip_queries'),
      sequence, _cost(vlm))


def _cost(vlm):
  c = vlm.decoder
  return kernels.Cost(
      token=decoder_lib.flops_per_token(c),
      key=4 * c.layers * c.heads * c.head_width,
      logits=decoder_lib.head_flops(c),
      clip_query=2 * c.width * vlm.visual_width,
      clip_logit=2 * vlm.visual_width)
