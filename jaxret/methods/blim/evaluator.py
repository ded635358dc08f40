"""Evaluates a likelihood model on one split: matrices, rows, report data."""
import functools
import hashlib
from typing import NamedTuple

import jax
import numpy as np

from jaxret import by_rows, processes, sharding
from jaxret.data import types
from jaxret.scoring import store as store_lib
from jaxret.scoring.likelihood import cascades, cpn, reference, search
from jaxret.scoring.likelihood import score as likelihood

DIRECTIONS = search.DIRECTIONS


class LikelihoodInputs(NamedTuple):
  """What is scored: a Split, its features, its texts as token sequences.

  vocabulary: float32 [V, clips, Dv], see base.Scorer. first_stage:
  {direction: [Q, C]} or None. topk: of each query, the candidates that are
  scored, or {direction: how many}; 0 = all. zero_shot: no video given text,
  whose head is untrained.
  """
  split: types.Split
  features: types.Visuals
  prompts: likelihood.Prompts
  vocabulary: np.ndarray
  first_stage: dict | None = None
  topk: int | dict[str, int] = 0
  zero_shot: bool = False


class Likelihoods(NamedTuple):
  """What a likelihood model says of V videos and T texts, float32.

  text_given_video [V, T]; text_prior [T], or [V, T] in reference mode and, made
  by rows, of prompts of their own; video_given_text [T, V] and video_prior
  [T, V], None in zero-shot mode; the prior is that of a text's length, and made
  by rows.
  """
  text_given_video: np.ndarray
  text_prior: np.ndarray | by_rows.Matrix
  video_given_text: np.ndarray | None
  video_prior: np.ndarray | by_rows.Matrix | None


def options_of(config):
  """likelihood.Options as a config has them."""
  c = config.eval
  return likelihood.Options(c.rows, c.columns, c.max_padding,
                            nonzero_denominator=c.nonzero_denominator,
                            mode=c.mode,
                            # Old work directories have no such field.
                            invariant=c.get('invariant', False))


def inputs(scorer, split, features, first_stage=None, topk=0, zero_shot=False):
  """LikelihoodInputs of a Split and its features; scorer: a base.Scorer.

  Or what one that has its own `inputs` makes of the Split, with a `score`.
  """
  if hasattr(scorer, 'inputs'):  # prompted_run.Scorer
    return scorer.inputs(split, features, first_stage=first_stage, topk=topk)
  return LikelihoodInputs(
      split, features, scorer.prompts(split.texts),
      scorer.video_vocabulary(features), first_stage, topk, zero_shot)


def score(model, params, mesh, inputs, options, directory, keep=None):
  """Likelihoods, kept in `directory` as found; None on all processes but 0.

  Every process computes; process 0 alone reads and writes the directory, and
  holds the matrices: memory maps that need not fit into memory.

  Args:
    keep: bool [V, T], the pairs to score; None = all.
  """
  if hasattr(inputs, 'score'):  # prompted.Inputs
    return inputs.score(options, directory, keep)
  check(inputs)
  store = _store(params, mesh, inputs, options, directory)
  fill = functools.partial(filled, store)
  common = model, params, mesh, inputs.prompts
  videos = inputs.features, inputs.vocabulary, options
  if options.mode == 'reference':
    return _reference(fill, common, inputs, options)
  n_videos, n_texts = len(inputs.vocabulary), len(inputs.prompts.labels)
  text_given_video = fill('text_given_video', (n_videos, n_texts), lambda m: (
      likelihood.score_texts(*common, inputs.features, options, m, keep)), keep)
  text_prior = fill('text_prior', (n_texts,), lambda m: _copy(
      m, likelihood.text_priors(*common, options)[0]))
  if inputs.zero_shot:
    return store and Likelihoods(text_given_video, text_prior, None, None)
  transposed = None if keep is None else keep.T
  video_given_text = fill('video_given_text', (n_texts, n_videos), lambda m: (
      likelihood.score_videos(*common, *videos, m, transposed)), transposed)
  prior = prior_of_videos(fill, common, videos)
  return store and Likelihoods(
      text_given_video, text_prior, video_given_text, prior)


def video_prior(model, params, mesh, inputs, options, directory):
  """log P(video) [T, V], kept beside the scores; None but on process 0."""
  return prior_of_videos(
      functools.partial(filled, _store(
          params, mesh, inputs, options, directory)),
      (model, params, mesh, inputs.prompts),
      (inputs.features, inputs.vocabulary, options))


def prior_of_videos(fill, common, videos):
  """log P(video) [T, V] of functions that fill; None but on process 0.

  fill: `filled` of a store. common: model, params, mesh and likelihood.Prompts;
  videos: features, vocabulary and options, as for `score`.
  """
  length_index = likelihood.prior_lengths(common[-1], videos[-1])[1]
  by_length = fill(
      'video_prior', (length_index.max() + 1, len(videos[0])), lambda m: _copy(
          m, likelihood.video_priors(*common, *videos)[0]))
  return None if by_length is None else prior_of_length(
      by_length, length_index)


def prior_of_length(by_length, length_index):
  """by_rows.Matrix [T, V] of [L, V], as which of L lengths each text has."""
  return by_rows.Matrix(lambda texts: by_length[length_index[texts]],
                        (len(length_index), by_length.shape[1]))


def first_clips(model, params, mesh, inputs, options, directory):
  """log P(clip 1 of each video | text) [T, V], kept beside the scores.

  None on all processes but 0.
  """
  shape = len(inputs.prompts.labels), len(inputs.vocabulary)
  return filled(
      _store(params, mesh, inputs, options, directory), 'first_clip', shape,
      lambda m: likelihood.first_clips(
          model, params, mesh, inputs.prompts, inputs.vocabulary, options, m))


def first_labels(model, params, mesh, inputs, options, directory):
  """The same of log P(first label of each text | video), [V, T]."""
  shape = len(inputs.vocabulary), len(inputs.prompts.labels)
  return filled(
      _store(params, mesh, inputs, options, directory), 'first_label', shape,
      lambda m: likelihood.first_labels(
          model, params, mesh, inputs.prompts, inputs.features, options, m))


def _store(params, mesh, inputs, options, directory):
  """The Store of these inputs' matrices; None on all processes but 0."""
  fingerprint = _fingerprint(params, mesh, inputs, options)
  if jax.process_index() == 0:
    return store_lib.Store(directory, fingerprint)
  return None


def _reference(fill, common, inputs, options):
  """Full passes per pair: what is finished is kept as a whole, or not."""
  by_video = len(inputs.vocabulary), len(inputs.prompts.labels)
  by_text = by_video[::-1]
  @functools.cache  # one pass gives all four, and only if one is asked for
  def passes():
    return reference.score(
        *common, inputs.features, inputs.vocabulary, options)
  parts = {name: fill(f'reference_{name}', shape, functools.partial(
      lambda name, m: _copy(m, getattr(passes(), name)), name))
           for name, shape in (
               ('text_given_video', by_video), ('text_prior', by_video),
               ('video_given_text', by_text), ('video_prior', by_text))}
  return None if parts['text_prior'] is None else Likelihoods(**parts)


def _copy(matrix, values):
  if matrix is not None:
    matrix[...] = values


def check(inputs):
  """Raises ValueError for features that are no numbers, naming the item."""
  bad = ~np.isfinite(inputs.vocabulary).reshape(
      len(inputs.vocabulary), -1).all(1)
  if bad.any():
    names = [inputs.split.videos[i].id for i in np.flatnonzero(bad)]
    raise ValueError(
        f'the features of {names[0]!r} hold values that are not finite'
        + (f' (and of {len(names) - 1} other videos)' if names[1:] else '')
        + ': extract them again, or leave the item out')
  if len(inputs.split.videos) != len({v.id for v in inputs.split.videos}):
    raise ValueError('two videos have the same id: ids must differ')


def directions(scored, first_stage=None, keep=None):
  """{name: cpn.Direction} of both directions.

  scored: Likelihoods. first_stage: {name: [Q, C]}; keep: {name: bool [Q, C]}.
  """
  query_of_video = None
  if scored.video_given_text is not None:
    query_of_video = scored.video_given_text.T
  first, keep = first_stage or {}, keep or {}
  return {
      'text_to_video': cpn.Direction(
          scored.video_given_text, scored.text_given_video.T,
          scored.video_prior, first.get('text_to_video'),
          keep.get('text_to_video')),
      'video_to_text': cpn.Direction(
          scored.text_given_video, query_of_video,
          _of_queries(scored.text_prior), first.get('video_to_text'),
          keep.get('video_to_text'))}


def _of_queries(prior):
  """[1 or Q, C] of a prior [C] or [Q, C], which need not fit into memory."""
  return prior if isinstance(prior, by_rows.Matrix) else np.atleast_2d(prior)


def evaluate(model, params, mesh, inputs, options, directory):
  """The Directions of a split; None on all processes but 0."""
  scored = score(model, params, mesh, inputs, options, directory,
                 either_kept(inputs))
  return scored and directions(
      scored, inputs.first_stage, kept_pairs(inputs))


def filled(store, name, shape, fill, keep=None):
  """The named matrix, filled: from disk as far as it is there.

  Returns None, and calls fill(None), on all processes but 0. Raises ValueError
  where a cell is still open then: nobody may take it for one left out.
  """
  matrix = store and store.matrix(name, shape)
  is_open = processes.agreed(
      store is not None and store.is_open(matrix, keep))
  try:
    if is_open:
      fill(matrix)
  except KeyboardInterrupt:
    raise KeyboardInterrupt(
        f'stopped while {name.replace("_", " ")} was scored; finished tiles '
        'are kept: rerun with the same workdir to go on') from None
  finally:
    if store is not None:
      matrix.flush()
  if is_open and store is not None and store.is_open(matrix, keep):
    raise ValueError(
        f'{store.directory}: {name} has pairs without a score after all were '
        'scored: another run writes there, or weights or features are not '
        'finite')
  return matrix


def kept_pairs(inputs):
  """{direction: bool [Q, C]}: the best `topk` candidates of the first stage."""
  if not inputs.topk:
    return None
  if inputs.first_stage is None:
    raise ValueError(
        f'eval.topk is {inputs.topk}, but there is no first stage to take '
        'candidates from: set eval.first_stage, or eval.topk=0 to score all')
  topk = inputs.topk
  if not isinstance(topk, dict):
    topk = dict.fromkeys(DIRECTIONS, topk)
  return {name: cascades.kept(inputs.first_stage[name], topk[name])
          for name in DIRECTIONS}


def either_kept(inputs):
  """bool [V, T]: the pairs that either direction keeps; None = all."""
  keep = kept_pairs(inputs)
  return keep and keep['text_to_video'].T | keep['video_to_text']


def _fingerprint(params, mesh, inputs, options):
  """What a pair's scores depend on, as short strings.

  Not the first stage, which only says which pairs are scored: a cascade and
  an exhaustive run fill the same matrices.
  """
  def digest(*arrays):
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]
  ids = [item.id for item in inputs.split.videos + inputs.split.texts]
  # Parts of split weights are summed otherwise than whole ones.
  split = {axis: mesh.shape[axis] for axis in ('fsdp', 'tensor')}
  invariant = {'invariant': {'version': likelihood.FIXED_VERSION, **split}}
  return (invariant if options.invariant else {}) | {
      'weights': sharding.checksum(params),
      'items': digest(np.array(ids)),
      'texts': digest(inputs.prompts.visual_prefix, *inputs.prompts.labels,
                      *inputs.prompts.text_prefixes),
      'features': digest(inputs.vocabulary),
      'nonzero_denominator': options.nonzero_denominator,
      'mode': options.mode, 'scoring': likelihood.VERSION}


def relevant(split):
  return {'text_to_video': split.text_to_video().relevant,
          'video_to_text': split.video_to_text().relevant}


def choose_weights(found, split):
  """{direction: {row: Weights}}, chosen on this split."""
  answers = relevant(split)
  return {name: cpn.choose(found[name], answers[name]) for name in DIRECTIONS}
