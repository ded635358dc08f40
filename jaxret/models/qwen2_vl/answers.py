"""How Qwen2-VL is trained to answer: the loss of an answer's tokens."""
import jax.numpy as jnp
import numpy as np

from jaxret import losses
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import vision as vision_lib


def answer_loss(module, params, batch, blind=None):
  """Negative log-likelihoods of the answers' tokens, float32 [B].

  Their mean over B is that over all of these tokens.

  Args:
    module: a Qwen2Vl. batch: what it is called with, and prompt_length int
      [B], how many tokens come before the answer.
    blind: bool [B], rows whose media's keys are masked; None = no row's.
  """
  def apply(method, *args):
    return module.apply(params, *args, method=method)
  visual = apply('visual_tokens', batch['patches'], batch['segments'],
                 batch['coordinates'])
  x = apply('embed', batch['tokens'], visual, batch['visual_index'])
  inside = decoder_lib.length_mask(batch['length'], x.shape[1])
  keys = inside
  if blind is not None:
    keys = inside & ~(blind[:, None] & (batch['visual_index'] >= 0))
  hidden = apply('hidden', x, keys, batch.get('positions'))
  # A state tells the next token: what is predicted starts at the second.
  index = jnp.arange(1, x.shape[1])
  answers = inside[:, 1:] & (index >= batch['prompt_length'][:, None])
  value = losses.token_log_likelihood(
      apply('vocabulary_terms', hidden[:, :-1]), batch['tokens'][:, 1:])
  return losses.token_mean(value, answers)


def train_flops(model, batch):
  """Minimal model FLOPs of forward and backward; padding does not count."""
  slices = [int(size) for segments in batch['segments']
            for size in np.bincount(segments.ravel())[1:]]
  patches = sum(n * vision_lib.flops_per_patch(model.vision, n)
                for n in slices)
  answers = float((batch['length'] - batch['prompt_length']).sum())
  read = sum(n * decoder_lib.flops_per_token(model.decoder)
             + decoder_lib.attention_flops(model.decoder, int(n))
             for n in batch['length'])
  return 3 * (patches + read + answers * decoder_lib.head_flops(model.decoder))
