"""AdamW on the trainable part of the parameters, warm-up and cosine."""
import re

import jax
import jax.numpy as jnp
import optax

from jaxret import sharding

_STACKED = ('layers', 'blocks')


def partition(params, trainable):
  """Splits nested dicts into (trainable, frozen) by path.

  trainable: regexes; a leaf is trained when one matches its whole '/'-joined
  path. Raises ValueError for a regex that matches nothing.
  """
  flat = sharding.flatten(params)
  for pattern in trainable:
    if not any(re.fullmatch(pattern, path) for path in flat):
      raise ValueError(
          f'trainable pattern {pattern!r} matches no parameter, the first are '
          f'{sorted(flat)[:3]}: patterns must match whole paths')
  chosen = {path: leaf for path, leaf in flat.items()
            if any(re.fullmatch(pattern, path) for pattern in trainable)}
  rest = {path: leaf for path, leaf in flat.items() if path not in chosen}
  return sharding.unflatten(chosen), sharding.unflatten(rest)


def merge(trainable, frozen):
  """The inverse of `partition`."""
  return sharding.unflatten(
      {**sharding.flatten(frozen), **sharding.flatten(trainable)})


def schedule(config, epochs, steps_per_epoch):
  """The learning rate of each update, step -> float32 scalar.

  Linear warm-up from 0 over `warmup_epochs`, then half a cosine down to
  `min_learning_rate` at `epochs` (the authors' util/lr_sched.py). They set it
  at the first micro-batch of an update, when the position is
  micro_batch / micro_batches_per_epoch + epoch = step / steps_per_epoch; the
  first update has rate 0.
  """
  peak, floor = config.learning_rate, config.min_learning_rate
  warmup = config.warmup_epochs

  def learning_rate(step):
    position = jnp.asarray(step, jnp.float32) / steps_per_epoch
    rising = peak * position / max(warmup, 1e-9)
    span = max(epochs - warmup, 1e-9)
    progress = jnp.clip((position - warmup) / span, 0.0, 1.0)
    falling = floor + (peak - floor) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return jnp.where(position < warmup, rising, falling)

  return jax.jit(learning_rate)


def decay_mask(params):
  """True for the leaves that weight decay acts on: logical matrices.

  Scanned layers are stacked on a leading axis, which does not count: their
  biases and norm scales [L, D] are not decayed.
  """
  def decayed(path, leaf):
    stacked = any(part in _STACKED
                  for part in sharding.path_name(path).split('/'))
    return leaf.ndim - stacked > 1
  return jax.tree_util.tree_map_with_path(decayed, params)


def make_optimizer(config, learning_rate):
  """AdamW as torch.optim.AdamW has it, as an optax transformation.

  config: betas, eps, weight_decay, gradient_clip_norm (0 = off).
  learning_rate: function of the step, see `schedule`.
  """
  b1, b2 = config.betas
  adamw = optax.adamw(learning_rate, b1=b1, b2=b2, eps=config.eps,
                      weight_decay=config.weight_decay, mask=decay_mask)
  if config.gradient_clip_norm:
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip_norm), adamw)
  return adamw
