"""The least work, counted again token by token."""
import numpy as np

from jaxret.scoring.likelihood import cost, kernels
from jaxret.scoring.likelihood import score as likelihood

COST = kernels.Cost(token=1000.0, key=10.0, logits=300.0, clip_query=70.0,
                    clip_logit=3.0)


def test_minimal_work_is_the_sum_over_single_tokens():
  visual, videos, clips, prior_length = -1, 5, 3, 2
  labels = [np.arange(n) for n in (3, 5, 3)]
  prefixes = [np.arange(n) for n in (6, 8, 6)]
  prompts = likelihood.Prompts(
      np.array([7, 7, visual, visual, visual, 7]), tuple(labels),
      tuple(prefixes), prior_length, visual)

  def sequence(start, length):
    """(tokens, FLOPs) of `length` tokens after `start` visible keys."""
    return np.array([length, sum(
        COST.token + COST.key * (start + k + 1) for k in range(length))])

  row = np.array([0, COST.logits])
  clip = np.array([0, COST.clip_query + videos * COST.clip_logit])
  text_given_video = sum(
      sequence(0, 6) + row + sum(
          sequence(6, len(label) - 1) + (len(label) - 1) * row
          for label in labels) for _ in range(videos))
  video_given_text = sum(
      sequence(0, len(prefix)) + clip + videos * (
          sequence(len(prefix), clips - 1) + (clips - 1) * clip)
      for prefix in prefixes)
  text_prior = sequence(0, 3) + row + sum(
      sequence(3, len(label) - 1) + (len(label) - 1) * row for label in labels)
  header = np.array([1, COST.token + COST.key * prior_length]) + clip
  video_prior = sequence(0, prior_length) + 2 * (header + videos * (
      sequence(prior_length, clips - 1) + (clips - 1) * clip))

  got = cost.minimal(COST, prompts, videos, clips)
  wanted = {'text_given_video': text_given_video,
            'video_given_text': video_given_text, 'text_prior': text_prior,
            'video_prior': video_prior}
  assert set(got) == set(wanted)
  for name, (tokens, flops) in wanted.items():
    assert got[name].tokens == tokens, name
    np.testing.assert_allclose(got[name].flops, flops, rtol=1e-12)
  assert cost.total(got).tokens == sum(w[0] for w in wanted.values())
