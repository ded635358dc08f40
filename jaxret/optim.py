"""AdamW on the trainable part of the parameters, warm-up and cosine or line."""
import functools
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
  first update has rate 0. With `schedule` = 'linear' it is `linear`, warmed up
  over `warmup_fraction` of all updates.
  """
  # optax's own schedules round other bits, and count a warm-up in whole steps.
  if getattr(config, 'schedule', 'cosine') == 'linear':
    total_steps = round(epochs * steps_per_epoch)
    return linear(config.learning_rate, total_steps,
                  int(total_steps * config.warmup_fraction))
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


def linear(peak, total_steps, warmup_steps):
  """A line up from 0 to `peak`, a line down to 0; step -> float32 scalar."""
  def learning_rate(step):
    step = jnp.asarray(step, jnp.float32)
    rising = step / max(warmup_steps, 1)
    falling = (total_steps - step) / max(total_steps - warmup_steps, 1)
    return peak * jnp.where(
        step < warmup_steps, rising, jnp.maximum(falling, 0.0))
  return jax.jit(learning_rate)


def decay_all_but(patterns, params):
  """True for the leaves whose whole path none of the regexes matches."""
  def decayed(path, leaf):
    del leaf
    name = sharding.path_name(path)
    return not any(re.fullmatch(pattern, name) for pattern in patterns)
  return jax.tree_util.tree_map_with_path(decayed, params)


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

  config: betas, eps, weight_decay, gradient_clip_norm (0 = off); no_decay,
    regexes of the paths that decay spares (absent or empty: all but matrices).
  learning_rate: function of the step, see `schedule`.
  """
  b1, b2 = config.betas
  spared = getattr(config, 'no_decay', ())
  mask = functools.partial(decay_all_but, spared) if spared else decay_mask
  adamw = optax.adamw(learning_rate, b1=b1, b2=b2, eps=config.eps,
                      weight_decay=config.weight_decay, mask=mask)
  if config.gradient_clip_norm:
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip_norm), adamw)
  return adamw
