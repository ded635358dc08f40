"""Evaluates a likelihood model on one split: matrices, rows, report data."""
import functools
import hashlib
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxret import metrics, sharding
from jaxret.scoring import cpn, likelihood
from jaxret.scoring import store as store_lib

DIRECTIONS = ('text_to_video', 'video_to_text')


class Inputs(NamedTuple):
  """What is scored: a Split, its features, its texts as token sequences.

  first_stage: {direction: [Q, C]} or None. topk: of each query, the candidates
  that are scored; 0 = all. zero_shot: no video given text, whose head is
  untrained.
  """
  split: object
  features: object
  prompts: likelihood.Prompts
  vocabulary: np.ndarray
  first_stage: dict | None = None
  topk: int = 0
  zero_shot: bool = False


def directions(model, params, mesh, inputs, options, directory):
  """{name: cpn.Direction} of both directions; scores are kept in `directory`.

  Every process computes; process 0 alone reads and writes the directory.
  """
  videos, texts = len(inputs.split.videos), len(inputs.split.texts)
  store = None
  fingerprint = _fingerprint(params, inputs, options)
  if jax.process_index() == 0:
    store = store_lib.Store(directory, fingerprint)
  keep = _keep(inputs)
  either = None
  if keep is not None:
    either = keep['text_to_video'].T | keep['video_to_text']
  score = functools.partial(_filled, store)
  common = model, params, mesh, inputs.prompts
  text_given_video = score('text_given_video', (videos, texts), lambda m: (
      likelihood.score_texts(
          *common, inputs.features, options, m, either)), either)
  text_prior = score('text_prior', (texts,), lambda m: np.copyto(
      m, likelihood.text_priors(*common, options)))
  video_given_text = video_prior = None
  if not inputs.zero_shot:
    video_given_text = score('video_given_text', (texts, videos), lambda m: (
        likelihood.score_videos(
            *common, inputs.features, inputs.vocabulary, options, m,
            None if either is None else either.T)),
        None if either is None else either.T)
    lengths = [len(prefix) for prefix in inputs.prompts.text_prefixes]
    _, length_index = np.unique(lengths, return_inverse=True)
    by_length = score(
        'video_prior', (length_index.max() + 1, videos), lambda m: np.copyto(
            m, likelihood.video_priors(
                *common, inputs.features, inputs.vocabulary, options)[0]))
    video_prior = by_length[length_index]
  turned = None if video_given_text is None else video_given_text.T
  first = inputs.first_stage or {}
  return {
      'text_to_video': cpn.Direction(
          video_given_text, text_given_video.T, video_prior,
          first.get('text_to_video'), keep and keep['text_to_video']),
      'video_to_text': cpn.Direction(
          text_given_video, turned, text_prior[None],
          first.get('video_to_text'), keep and keep['video_to_text'])}


def _filled(store, name, shape, fill, keep=None):
  """The named matrix, filled: from disk as far as it is there."""
  if store is None:
    matrix = np.full(shape, np.nan, np.float32)
  else:
    matrix = store.matrix(name, shape)
  if jax.process_count() > 1:
    # All processes must agree on which tiles are open, and no other process
    # needs to see the disk of process 0.
    known = multihost_utils.broadcast_one_to_all(np.asarray(matrix))
    if store is None:
      matrix = np.array(known)
  is_open = np.isnan(matrix) if keep is None else np.isnan(matrix) & keep
  if is_open.any():
    fill(matrix)
  if store is not None and hasattr(matrix, 'flush'):
    matrix.flush()
  return np.array(matrix)


def _keep(inputs):
  """{direction: bool [Q, C]}: the best `topk` candidates of the first stage."""
  if not inputs.topk:
    return None
  if inputs.first_stage is None:
    raise ValueError(
        f'eval.topk is {inputs.topk}, but there is no first stage to take '
        'candidates from: set eval.first_stage, or eval.topk=0 to score all')
  keep = {}
  for name in DIRECTIONS:
    scores = inputs.first_stage[name]
    best = np.argsort(-scores, 1, kind='stable')[:, :inputs.topk]
    keep[name] = np.zeros(scores.shape, bool)
    np.put_along_axis(keep[name], best, True, 1)
  return keep


def _fingerprint(params, inputs, options):
  """What a pair's scores depend on, as short strings.

  Not the first stage, which only says which pairs are scored: a cascade and
  an exhaustive run fill the same matrices.
  """
  def digest(*arrays):
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]
  ids = [item.id for item in inputs.split.videos + inputs.split.texts]
  return {
      'weights': sharding.checksum(params),
      'items': digest(np.array(ids)),
      'texts': digest(inputs.prompts.visual_prefix, *inputs.prompts.labels,
                      *inputs.prompts.text_prefixes),
      'features': digest(inputs.vocabulary),
      'nonzero_denominator': options.nonzero_denominator}


def relevant(split):
  return {'text_to_video': split.text_to_video().relevant,
          'video_to_text': split.video_to_text().relevant}


def choose_weights(found, split):
  """{direction: {row: Weights}}, chosen on this split."""
  answers = relevant(split)
  return {name: cpn.choose(found[name], answers[name]) for name in DIRECTIONS}


def tabulate(found, split, chosen, **others):
  """({direction: {row: summary}}, {direction: {row: [Q, C] scores}}).

  chosen, others: {direction: {row: Weights}}; others by their row's suffix.
  """
  answers, summaries, matrices = relevant(split), {}, {}
  for name in DIRECTIONS:
    matrices[name] = cpn.rows(
        found[name], chosen[name],
        **{suffix: weights[name] for suffix, weights in others.items()})
    summaries[name] = {
        row: metrics.summary(metrics.ranks(scores, answers[name]))
        for row, scores in matrices[name].items()}
  return summaries, matrices
