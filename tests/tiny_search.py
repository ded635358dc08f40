"""Random log-likelihoods to search in, and what a double loop finds."""
from typing import NamedTuple
from unittest import mock

import numpy as np

from jaxret.scoring.likelihood import score as likelihood
from jaxret.scoring.likelihood import search
from tests import tiny_likelihood


class Drawn(NamedTuple):
  """Log-likelihoods of every label and clip; see `draw`."""
  labels: np.ndarray  # [V, T, L], 0 behind the end
  clips: np.ndarray  # [T, V, K]
  lengths: np.ndarray  # [T]
  text_prior: np.ndarray  # [T]
  video_prior: np.ndarray  # [T, V]


def draw(seed, n_videos=17, n_texts=13, size=6, n_clips=3):
  """With ties, likelihoods of exactly 1, short captions, and hubs."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(2, size + 1, n_texts)
  shape = n_videos, n_texts, size
  labels = -rng.exponential(1, shape) * (rng.random(shape) > 0.3)
  labels = np.round(labels * rng.choice([0.2, 1, 3], (n_videos, 1, 1)), 1)
  labels *= np.arange(size) < lengths[:, None]
  clips = -np.round(rng.exponential(2, (n_texts, n_videos, n_clips)), 1)
  clips[..., 0] *= rng.choice([1, 4], (n_texts, n_videos))
  match = np.arange(min(n_texts, n_videos))
  labels[match, match] /= 4
  clips[match, match] /= 8
  return Drawn(labels.astype(np.float32), clips.astype(np.float32), lengths,
               -rng.exponential(1.5, n_texts).astype(np.float32),
               -rng.exponential(1, (n_texts, n_videos)).astype(np.float32))


def text_given_video(drawn):
  return (drawn.labels.sum(2) / drawn.lengths).astype(np.float32)


def video_given_text(drawn):
  return drawn.clips.mean(2).astype(np.float32)


def matrices(drawn, filled=False, zero_shot=False):
  """search.Matrices, open or filled."""
  nan = np.float32(1 if filled else np.nan)
  clips = None if zero_shot else video_given_text(drawn) * nan
  return search.Matrices(
      text_given_video(drawn) * nan, clips, drawn.labels[..., 0].copy(),
      None if zero_shot else drawn.clips[..., 0].copy(), drawn.text_prior,
      None if zero_shot else drawn.video_prior)


def job(drawn, alike=False):
  """A search.Job without a model: see `filling`; alike: all captions are."""
  prompts = likelihood.Prompts(
      np.zeros(3, np.int32), tuple(np.full(n, 0 if alike else t, np.int32)
                                   for t, n in enumerate(drawn.lengths)),
      tuple(np.zeros(n + 2, np.int32) for n in drawn.lengths), 1, -1)
  clips = drawn.clips.shape[1:]
  return search.Job(None, None, tiny_likelihood.one_device(), prompts, None,
                    np.zeros((*clips, 2)), likelihood.Options(4, 8))


def known(drawn, direction):
  """bounds.Known of all that there is."""
  return search._known(job(drawn), matrices(drawn, filled=True),
                       direction == 'video_to_text')


def filling(drawn, asked=None):
  """Patches scoring: the matrices are filled with what was drawn.

  asked: gets (name, cells that were open, keep) of every call.
  """
  def filler(name, values):
    def fill(*args):
      matrix, keep = args[-2:]
      cells = np.isnan(matrix)
      cells &= True if keep is None else keep
      if asked is not None:
        asked.append((name, int(cells.sum()), keep))
      matrix[cells] = values[cells]
      return 0
    return fill
  return mock.patch.multiple(
      likelihood, score_texts=filler('captions', text_given_video(drawn)),
      score_videos=filler('clips', video_given_text(drawn)))


def brute_force(drawn, direction, weights):
  """The final scores [Q, C], pair by pair in float64."""
  by_video, by_text = text_given_video(drawn), video_given_text(drawn)
  scores = np.empty(by_video.shape)
  for v, t in np.ndindex(scores.shape):
    if direction == 'video_to_text':
      candidate, query = by_video[v, t], by_text[t, v]
      prior = drawn.text_prior[t]
    else:
      candidate, query = by_text[t, v], by_video[v, t]
      prior = drawn.video_prior[t, v]
    scores[v, t] = weights.c * query + (1 - weights.c) * (
        candidate - weights.alpha * prior)
  return scores if direction == 'video_to_text' else scores.T
