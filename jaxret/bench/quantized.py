"""Scoring with layers in 8 bits beside full precision, in one process.

  python -m jaxret.bench.quantized --workdir=workdirs/blim [--kind=int8]
      [--split=test] [--videos=0] [--texts=0] [--k=10]
      [--weights=paper]

What a run has trained scores all pairs of a split twice: as it is, and with the
kernels of its decoder in 8 bits (models.quantized). It says how much of the
rankings is kept, and what it takes to get the best k of each query back by
scoring again what is close (rank_preservation.best_k_again): the share of the
pairs, and whether those are the best k of all pairs at full precision. Prints
one JSON object as the last thing on standard output; progress goes to standard
error.
"""
import json
import sys

import jax
import numpy as np

from jaxret import process_settings
from jaxret.bench import certified, machine
from jaxret.methods.blim import evaluator
from jaxret.models import quantized
from jaxret.scoring import rank_preservation
from jaxret.scoring.likelihood import cpn
from jaxret.scoring.likelihood import score as likelihood


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  process_settings.exact_float32()
  print(json.dumps(measure(options)))
  return 0


def parse(argv):
  parser = certified.job_parser('jaxret.bench.quantized')
  parser.add_argument('--kind', choices=quantized.KINDS, default='int8')
  parser.add_argument('--k', type=machine.positive, default=10)
  parser.add_argument('--weights', default='paper',
                      help="'chosen', 'paper' or alpha:c")
  return parser.parse_args(argv)


def measure(options):
  """The numbers that are printed, as a dict."""
  job = certified.Job(options)
  model, params, mesh, inputs, scoring = job.common
  small = quantized.quantize(params, options.kind)
  found, matrices = {}, {}
  for name, variables in (('reference', params), (options.kind, small)):
    job.common = model, variables, mesh, inputs, scoring
    machine.log(f'{name}: compiling')
    job.exhaustive(warm_up=True)
    taken = []
    with machine.timed(taken):
      *matrices[name], tokens = job.exhaustive()
    (seconds, cpu_seconds), = taken
    found[name] = {'seconds': seconds, 'cpu_seconds': cpu_seconds,
                   'tokens': tokens, 'bytes': _bytes(variables)}
    machine.log(json.dumps(found[name]))
  job.common = model, params, mesh, inputs, scoring
  priors = _priors(job)
  return {
      'device': jax.devices()[0].device_kind, 'split': options.split,
      'videos': len(matrices['reference'][0]),
      'texts': len(matrices['reference'][1]), 'kind': options.kind, **found,
      **{direction: _direction(job, options, direction, matrices, priors)
         for direction in evaluator.DIRECTIONS}}


def _bytes(variables):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(variables))


def _priors(job):
  """(of texts, of videos for each text), at full precision."""
  model, params, mesh, inputs, options = job.common
  common = model, params, mesh, inputs.prompts
  of_videos, index, _ = likelihood.video_priors(
      *common, inputs.features, inputs.vocabulary, options)
  return likelihood.text_priors(*common, options)[0], of_videos[index]


def _direction(job, options, direction, matrices, priors):
  """The report of one direction, and its best k again."""
  weights = job.weights(options.weights, direction)
  def combined(by_video, by_text):
    return cpn.bidirectional(evaluator.directions(evaluator.Likelihoods(
        by_video, priors[0], by_text, priors[1]))[direction], weights)
  reference = combined(*matrices['reference'])
  cheap = combined(*matrices[options.kind])
  asked = []
  def score(pairs):
    asked.append(int(pairs.sum()))
    by_video = pairs if direction == 'video_to_text' else pairs.T
    return combined(*_some(job, matrices[options.kind], by_video))
  again = rank_preservation.best_k_again(cheap, options.k, score)
  def best(scores):
    return np.argsort(-scores, 1, kind='stable')[:, :options.k]
  # The n-th text is of the n-th video, where there are as many.
  own = [np.array([n % cheap.shape[1]]) for n in range(len(cheap))]
  return {
      **rank_preservation.report(cheap, reference, own, options.k),
      'again': {
          'queries': len(cheap), 'rounds': asked,
          'share': float(again.again.mean()),
          'difference': again.difference,
          'same_best_k': int(
              (best(again.scores) == best(reference)).all(1).sum())}}


def _some(job, matrices, by_video):
  """The matrices with the pairs bool [V, T] at full precision."""
  model, params, mesh, inputs, options = job.common
  common = model, params, mesh, inputs.prompts, inputs.features
  texts, videos = (np.where(pairs, np.nan, matrix).astype(np.float32)
                   for pairs, matrix in zip((by_video, by_video.T), matrices))
  likelihood.score_texts(*common, options, texts, by_video)
  likelihood.score_videos(
      *common, inputs.vocabulary, options, videos, by_video.T)
  return texts, videos


if __name__ == '__main__':
  sys.exit(main())
