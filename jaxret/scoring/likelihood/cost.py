"""The least work that scoring all pairs exactly can take."""
import functools
from typing import NamedTuple

import numpy as np


class Work(NamedTuple):
  """Tokens through the decoder, and FLOPs with attention and logits."""
  tokens: int
  flops: float

  def __add__(self, other):
    return Work(self.tokens + other.tokens, self.flops + other.flops)


def minimal(cost, prompts, n_videos, clips):
  """{quantity: Work}: each prefix, suffix token and prior exactly once.

  Captions are taken as if they shared no beginning. The projectors and the
  video tower are not counted.

  Args:
    cost: kernels.Cost of the model; prompts: likelihood.Prompts of T texts;
      n_videos: V; clips: clips per video.
  """
  labels = np.array([len(label) for label in prompts.labels])
  prefixes = np.array([len(prefix) for prefix in prompts.text_prefixes])
  visual = len(prompts.visual_prefix)
  seen = int(np.sum(prompts.visual_prefix != prompts.visual))
  own = clips - 1
  clip_row = cost.clip_query + n_videos * cost.clip_logit
  captions = functools.partial(_captions, cost, labels)

  def clips_after(prefix, count):
    tokens = _tokens(cost, np.full(1, own), prefix) + Work(0, own * clip_row)
    return Work(tokens.tokens * count, tokens.flops * count)

  text_given_video = _tokens(cost, np.array([visual]), 0) + Work(
      0, cost.logits) + captions(visual)
  video_given_text = sum(
      (clips_after(prefix, n_videos) for prefix in prefixes),
      _tokens(cost, prefixes, 0) + Work(0, len(prefixes) * clip_row))
  lengths = np.unique(prefixes)
  header = Work(1, cost.token + prompts.prior_length * cost.key + clip_row)
  video_prior = clips_after(prompts.prior_length, n_videos) + header
  return {
      'text_given_video': Work(n_videos * text_given_video.tokens,
                               n_videos * text_given_video.flops),
      'video_given_text': video_given_text,
      'text_prior': _tokens(cost, np.array([seen]), 0) + Work(
          0, cost.logits) + captions(seen),
      'video_prior': _tokens(cost, np.array([prompts.prior_length]), 0) + Work(
          len(lengths) * video_prior.tokens,
          len(lengths) * video_prior.flops)}


def _captions(cost, labels, prefix):
  """The scored tokens of every text but its last, after one prefix."""
  return _tokens(cost, labels - 1, prefix) + Work(
      0, cost.logits * int(np.sum(labels - 1)))


def total(works):
  return sum(works.values(), Work(0, 0.0))


def _tokens(cost, lengths, prefix):
  """Sequences of the given lengths, each after `prefix` keys, causal."""
  tokens = int(np.sum(lengths))
  keys = float(np.sum(lengths * (lengths + 1.0) / 2 + lengths * prefix))
  return Work(tokens, tokens * cost.token + keys * cost.key)
