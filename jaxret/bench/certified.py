"""A search that proves its best k beside scoring all pairs, in one process.

  python -m jaxret.bench.certified --workdir=workdirs/blim [--split=test]
      [--videos=0] [--texts=0] [--direction=video_to_text] [--k=1,10]
      [--weights=chosen,paper]

What a run has trained scores a split of it: all pairs once, then each search
from nothing. Programs are compiled before, by the search itself and by one
block of rows of each shape. Seconds are the process's CPU time and wall time,
tokens are those that go through the decoder, padding included; prefixes and
first clips count as part of each search. Every list of k is compared with the
exhaustive one. Prints one JSON object as the last thing on standard output;
progress goes to standard error.
"""
import argparse
import json
import sys
import tempfile

import jax
import numpy as np

from jaxret import checkpoint, process_settings
from jaxret.bench import machine
from jaxret.data import types
from jaxret.methods.blim import evaluator
from jaxret.methods.blim import run as blim_run
from jaxret.methods.blim import scores as scores_lib
from jaxret.methods.blim import search as search_lib
from jaxret.scoring.likelihood import cpn, tiles
from jaxret.scoring.likelihood import score as likelihood


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  process_settings.exact_float32()
  print(json.dumps(measure(options)))
  return 0


def parse(argv):
  parser = job_parser('jaxret.bench.certified')
  parser.add_argument('--direction', choices=evaluator.DIRECTIONS,
                      default='video_to_text')
  parser.add_argument('--k', type=numbers, default=(1, 10))
  parser.add_argument('--weights', default='chosen,paper',
                      help="'chosen', 'paper' or alpha:c, with commas between")
  return parser.parse_args(argv)


def job_parser(program):
  """A parser with the flags that a Job reads."""
  parser = argparse.ArgumentParser(program)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--split', default='test')
  parser.add_argument('--videos', type=int, default=0, help='the first; 0: all')
  parser.add_argument('--texts', type=int, default=0, help='the first; 0: all')
  return parser


def numbers(text):
  return tuple(machine.positive(part) for part in text.split(','))


class Job:
  """Everything that is measured takes; matrices are new for each run."""

  def __init__(self, options):
    config = checkpoint.read_config(options.workdir)
    self.workdir, self.config = options.workdir, config
    mesh, data, method = blim_run.start(
        config, options.workdir, (options.split,))
    features, _ = blim_run.see(config, options.workdir, mesh, data)
    params = blim_run.parameters(config, method, mesh, options.workdir)
    split = data.splits[options.split]
    n_videos = options.videos or len(split.videos)
    n_texts = options.texts or len(split.texts)
    features = np.stack([
        np.asarray(features[options.split][v]) for v in range(n_videos)])
    split = types.Split(split.dataset, split.name, split.videos[:n_videos],
                        split.texts[:n_texts], np.zeros(n_texts, np.int32))
    self.inputs = evaluator.inputs(method.scorer, split, features)
    self.options = evaluator.options_of(config)
    self.common = method.scorer.model, params, mesh, self.inputs, self.options

  def exhaustive(self, warm_up=False):
    """(text given video [V, T], video given text [T, V], tokens)."""
    model, params, mesh, inputs, options = self.common
    n_videos, n_texts = len(inputs.vocabulary), len(inputs.prompts.labels)
    by_video = np.full((n_videos, n_texts), np.nan, np.float32)
    by_text = np.full((n_texts, n_videos), np.nan, np.float32)
    if warm_up:  # one block of rows of each shape
      by_video[options.rows:] = 0
      lengths, seen = [len(p) for p in inputs.prompts.text_prefixes], {}
      for block in tiles.blocks(lengths, options.rows, options.max_padding):
        if seen.setdefault(block.length, block) is not block:
          by_text[block.index] = 0
    common = model, params, mesh, inputs.prompts, inputs.features
    tokens = likelihood.score_texts(*common, options, by_video)
    tokens += likelihood.score_videos(
        *common, inputs.vocabulary, options, by_text)
    return by_video, by_text, tokens

  def search(self, direction, weights, k):
    """search.Found, from nothing."""
    with tempfile.TemporaryDirectory() as directory:
      return search_lib.best(
          *self.common, directory, direction, weights, k,
          slack=search_lib.slack_of(self.config))

  def weights(self, name, direction):
    """cpn.Weights that a word of --weights means.

    Raises ValueError where none were chosen.
    """
    if name == 'chosen':
      found = scores_lib.chosen(self.config, self.workdir)
      if found.on == 'paper':
        raise ValueError(f'{self.workdir} has not been evaluated, so no '
                         'weights were chosen: evaluate it, or give '
                         '--weights=paper')
      return found.weights[direction]
    if name == 'paper':
      return scores_lib.paper_weights(self.config)[direction]['blim']
    return cpn.Weights(*map(float, name.split(':')))

  def all_scores(self, by_video, by_text, direction, weights):
    """The exhaustive scores [Q, C] of a direction."""
    model, params, mesh, inputs, options = self.common
    common = model, params, mesh, inputs.prompts
    video_prior, index, _ = likelihood.video_priors(
        *common, inputs.features, inputs.vocabulary, options)
    return cpn.bidirectional(evaluator.directions(evaluator.Likelihoods(
        by_video, likelihood.text_priors(*common, options)[0], by_text,
        video_prior[index]))[direction], weights)


def measure(options):
  """The numbers that are printed, as a dict."""
  job = Job(options)
  named = {name: job.weights(name, options.direction)
           for name in options.weights.split(',')}
  machine.log('compiling')
  job.exhaustive(warm_up=True)
  taken = []
  with machine.timed(taken):
    by_video, by_text, tokens = job.exhaustive()
  (seconds, cpu_seconds), = taken
  whole = {'baseline_seconds': seconds, 'baseline_cpu_seconds': cpu_seconds,
           'baseline_tokens': tokens}
  machine.log(f'all pairs: {whole}')
  searches = []
  for name, weights in named.items():
    scores = job.all_scores(by_video, by_text, options.direction, weights)
    for k in options.k:
      found = _one(job, options.direction, weights, k, scores, whole)
      searches.append({'weights': name, 'alpha': weights.alpha,
                       'query_weight': weights.c, **found})
      machine.log(json.dumps(searches[-1]))
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'split': options.split, 'direction': options.direction,
      'videos': len(by_video), 'texts': len(by_text), 'baseline': 'all pairs',
      **whole, 'searches': searches}


def _one(job, direction, weights, k, scores, whole):
  """One search after one that compiles it, compared with all scores."""
  job.search(direction, weights, k)
  taken = []
  with machine.timed(taken):
    found = job.search(direction, weights, k)
  (seconds, cpu_seconds), = taken
  k = found.index.shape[1]
  index = np.argsort(-scores, 1, kind='stable')[:, :k]
  best = np.take_along_axis(scores, index, 1)
  return {
      'k': k, 'queries': len(index),
      'same_in_order': int((index == found.index).all(1).sum()),
      'certified': int(found.certified.sum()),
      'max_abs_difference': float(np.abs(best - found.score).max()),
      'smallest_margin': float(found.margin.min()),
      'pairs_scored_whole': found.whole,
      'expected_share': found.expected.expected,
      'least_share': found.expected.least,
      'seconds': seconds, 'cpu_seconds': cpu_seconds, 'tokens': found.tokens,
      'speedup': whole['baseline_seconds'] / seconds,
      'cpu_speedup': whole['baseline_cpu_seconds'] / cpu_seconds,
      'token_share': found.tokens / whole['baseline_tokens']}


if __name__ == '__main__':
  sys.exit(main())
