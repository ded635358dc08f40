"""A share of the captions that is read in training as P(text) is scored.

A model that has only ever seen captions with their videos has no P(text): the
mask of CPN shows it what it never saw. A large model brings one along, which
pre-training on texts gave it; these captions stand in for that where a model
starts from scratch. The paper has no such thing.
"""
import jax

FOLD = 5  # of a step's key; those before it are the model's, for dropout


def share(train):
  """The share of a config's section `train`; ValueError for what is none."""
  # Configs of old work directories have no such field.
  value = train.get('text_prior_share', 0.0)
  if not 0 <= value < 1:
    raise ValueError(f'train.text_prior_share is {value}, want 0 for none to '
                     'less than 1')
  return value


def keys(share, key, is_visual):
  """The keys that captions see: bool [B, T], or None where all see all.

  A share of the rows does not see its video, whose positions stay, as in the
  text prior (spec §4). Which rows depends on the key alone.

  Args:
    share: 0 to 1. key: of the micro-batch; None = all rows see their video.
    is_visual: bool [B, T], the video's tokens.
  """
  if key is None or not share:
    return None
  alone = jax.random.bernoulli(
      jax.random.fold_in(key, FOLD), share, is_visual.shape[:1])
  return ~(alone[:, None] & is_visual)
