"""Qwen3-VL-Reranker: how much likelier the answer is yes than no.

Source: the authors' script (spec §4); checked against golden data.
"""
import jax
import jax.numpy as jnp


def log_odds(config, params, batch, words):
  """log P(yes) - log P(no) of each pair, float32 [B].

  config: a Qwen3VlConfig, its parameters with the output head; batch: as
  data.qwen3_vl.pairs pads it; words: int [2], the tokens of yes and no. The
  score of the authors is the sigmoid. In float32 whatever the weights are in:
  bfloat16 would leave few scores (spec §0).
  """
  def of_last(module, batch):
    return module.vocabulary_terms(module.pooled(batch))
  terms = config.module().apply(params, batch, method=of_last)
  words = jnp.asarray(words)
  logits = sum(
      jnp.matmul(left.astype(jnp.float32),
                 right[:, words].astype(jnp.float32),
                 precision=jax.lax.Precision.HIGHEST)
      for left, right in terms)
  return logits[:, 0] - logits[:, 1]
