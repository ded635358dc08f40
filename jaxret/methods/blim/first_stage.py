"""The first stage of a cascade: scores of a file, the tower, the first clips.

They choose the candidates whose likelihoods are computed.
"""
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from jaxret import processes
from jaxret.methods.blim import evaluator, tower

CLIP = 'clip'  # of eval.first_stage: the first clips


def from_file(config, whole, split):
  """{direction: [Q, C]} from an .npz with `text_to_video` and `video_to_text`.

  Rows and columns follow the data set's files; those of items that were left
  out are dropped. Raises ValueError for a file of another kind or shape.

  whole: the Split as the data set's files have it; split: what is used of it.
  """
  path = pathlib.Path(
      config.eval.first_stage.replace('{split}', whole.name))
  try:
    stored = dict(np.load(path))
  except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
    raise ValueError(
        f'eval.first_stage {path} cannot be read ({error}); give an .npz with '
        'text_to_video and video_to_text, as jaxret.methods.blim.convert '
        'writes it'
    ) from None
  texts, videos = (
      np.flatnonzero(np.isin([item.id for item in all_items],
                             [item.id for item in used]))
      for all_items, used in ((whole.texts, split.texts),
                              (whole.videos, split.videos)))
  n_texts, n_videos = len(whole.texts), len(whole.videos)
  found = {
      'text_to_video': _matrix(path, stored, 'text_to_video', whole,
                               (n_texts, n_videos))[np.ix_(texts, videos)],
      'video_to_text': _matrix(path, stored, 'video_to_text', whole,
                               (n_videos, n_texts))[np.ix_(videos, texts)]}
  for direction, scores in found.items():
    if np.isnan(scores).any():
      raise ValueError(f'{path}: {direction} has NaN for items of split '
                       f'{whole.name}, which cannot be ranked: give numbers')
  return found


def _matrix(path, stored, direction, whole, shape):
  if direction not in stored:
    raise ValueError(f'{path} has no {direction}, only {", ".join(stored)}')
  scores = stored[direction]
  if scores.shape != shape:
    raise ValueError(
        f'{path}: {direction} has shape {scores.shape}, wanted {shape} for '
        f'split {whole.name} of {whole.dataset}: put {{split}} in '
        'eval.first_stage for one file per split, or set eval.splits')
  return scores.astype(np.float32)


def from_tower(stage, tokenizer, params, split, frames):
  """The same of a dual encoder's similarities; stage: its config."""
  scores = tower.similarity(stage, tokenizer, params, split.texts, frames)
  return {'text_to_video': scores, 'video_to_text': scores.T}


class FirstClips(NamedTuple):
  """log P(clip 1 of each video | text) and log P(video), float32 [T, V]."""
  likelihood: np.ndarray
  prior: np.ndarray

  def scores(self, alpha):
    """{direction: [Q, C]}, that of videos less alpha times their prior (CPN).

    Where texts are the candidates the video is given: its prior is no matter.
    """
    to_video = self.likelihood
    if alpha:
      to_video = to_video - np.float32(alpha) * self.prior
    return {'text_to_video': to_video, 'video_to_text': self.likelihood.T}


def from_clips(model, params, mesh, inputs, options, directory):
  """FirstClips of all pairs, on every process; kept beside the scores.

  They cost one prefix of each text and one matmul, and no second model.
  inputs: evaluator.LikelihoodInputs, not zero-shot: the head is untrained then.
  """
  common = model, params, mesh, inputs, options, directory
  shape = len(inputs.prompts.labels), len(inputs.vocabulary)
  return FirstClips(*(_everywhere(matrix, shape) for matrix in (
      evaluator.first_clips(*common), evaluator.video_prior(*common))))


def _everywhere(matrix, shape):
  """A matrix that process 0 alone holds, float32, on all of them."""
  if matrix is None:
    matrix = np.zeros(shape, np.float32)
  return processes.of_first(matrix)
