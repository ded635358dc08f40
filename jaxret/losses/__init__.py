"""Losses, one value per example in float32; the training step takes the mean.

None of them knows a model: they take hidden states, matrices and masks. Under
`jit` with a sharded batch they see the global batch, so the negatives of all
devices are in and the gradients are the true global ones. What LECCR alone
needs is in losses.leccr.
"""
from jaxret.losses.contrastive import (
  false_negatives,
  info_nce,
  modal_contrastive,
  one_way_info_nce,
)
from jaxret.losses.likelihood import (
  clip_log_likelihood,
  token_log_likelihood,
  token_mean,
)
from jaxret.losses.matryoshka import matryoshka, prefix
from jaxret.losses.ranking import cosent, distillation

__all__ = ['clip_log_likelihood', 'cosent', 'distillation', 'false_negatives',
           'info_nce', 'matryoshka', 'modal_contrastive', 'one_way_info_nce',
           'prefix', 'token_log_likelihood', 'token_mean']
