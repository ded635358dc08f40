"""Reranking: candidates of mixed sizes behind queries, pairs per second.

  python -m jaxret.bench.rerank [--preset=50m] [--queries=N] [--candidates=100]
      [--rounds=3] [--baseline=transformers] [--baseline_pairs=N]

A Qwen3-VL with random weights; candidates are images, texts and both, every
other query shows an image. All goes through Reranker.rerank, which keeps what
the vision tower gives of media: the first call sees them and compiles, the
timed ones get queries and candidates in other orders. The baseline is
transformers with the same weights on all cores, pairs of like lengths in
batches, inputs made beforehand; rounds of both alternate, medians are printed,
as one JSON object, the last thing on standard output. With --baseline_pairs it
reads a sample of the pairs. On a machine that others use too the ratio of CPU
times, `cpu_speedup`, says more than `speedup`.
"""
import argparse
import json
import statistics
import sys
import time
from typing import NamedTuple

import jax
import numpy as np

from jaxret import process_settings, sharding
from jaxret.bench import machine, multimodal
from jaxret.data import question_frames, types
from jaxret.data.qwen2_vl import pairs
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pixels, reader
from jaxret.models import decoder
from jaxret.models.qwen3_vl import model as qwen3_vl
from jaxret.models.qwen3_vl import vision
from jaxret.reranking import media_features, pair_scores, reranker

# Tokens of the prompt of Qwen3-VL-Reranker, before and behind an item.
BEFORE, BEHIND = 62, 5
WORDS = {'query': (8, 40), 'candidate': (10, 120)}


class Preset(NamedTuple):
  """A model; sides of its images in tokens, least and most; queries of a run.
  """
  config: qwen3_vl.Qwen3VlConfig
  sides: tuple[int, int]
  queries: int


PRESETS = {
    'tiny': Preset(qwen3_vl.Qwen3VlConfig(
        decoder.DecoderConfig(640, 64, 128, 2, 4, 2, 32, 1e4,
                              rope_sections=(6, 5, 5), rope_interleaved=True,
                              qkv_bias=False, qk_norm=True,
                              tie_embeddings=True),
        vision.VisionConfig(64, width=48, layers=2, heads=2, mlp_width=64,
                            positions=16, deepstack=(0,))), (1, 3), 2),
    '50m': Preset(qwen3_vl.Qwen3VlConfig(
        decoder.DecoderConfig(16384, 512, 2048, 8, 8, 2, 64, 5e6,
                              rope_sections=(12, 10, 10), rope_interleaved=True,
                              qkv_bias=False, qk_norm=True,
                              tie_embeddings=True),
        vision.VisionConfig(512, width=320, layers=8, heads=8, mlp_width=1280,
                            positions=256, deepstack=(2, 4, 6))), (3, 12), 4),
    # Qwen3-VL-2B, for accelerators.
    '2b': Preset(qwen3_vl.Qwen3VlConfig(
        decoder.DecoderConfig(151936, 2048, 6144, 28, 16, 8, 128, 5e6,
                              rope_sections=(24, 20, 20), rope_interleaved=True,
                              qkv_bias=False, qk_norm=True, tie_embeddings=True,
                              dtype='bfloat16', param_dtype='bfloat16'),
        vision.VisionConfig(2048, width=1024, layers=24, heads=16,
                            mlp_width=4096, deepstack=(5, 11, 17),
                            dtype='bfloat16', param_dtype='bfloat16')),
                 (8, 24), 4),
}


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  print(json.dumps(measure(options)))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.rerank')
  parser.add_argument('--preset', choices=PRESETS, default='50m')
  parser.add_argument('--queries', type=machine.positive,
                      help='how many; default: as preset')
  parser.add_argument('--candidates', type=machine.positive, default=100,
                      help='of every query')
  parser.add_argument('--rounds', type=machine.positive, default=3,
                      help='timed, of each')
  parser.add_argument('--baseline', choices=('transformers',),
                      help='what to compare with, on the CPU')
  parser.add_argument('--baseline_pairs', type=machine.positive,
                      help='a sample; default: all')
  parser.add_argument('--baseline_batch', type=machine.positive, default=16,
                      help='pairs that the baseline reads at a time')
  return parser.parse_args(argv)


class Ready(pairs.Pairs):
  """Reads pairs of items that were made before, by their ids.

  made: {id: (words int32 [n], (grid, patches) or None)}; the head of a query
  is BEFORE random tokens and the query, a candidate ends in BEHIND of them.
  """
  layout, alpha, resolution = reader.LAYOUT, 'white', pixels.Resolution()

  def __init__(self, config, made):
    self.special = multimodal.special(config)
    self.made = made
    words = np.random.default_rng(1).integers(
        0, min(self.special.values()), BEFORE + BEHIND).astype(np.int32)
    self._before, self._after = words[:BEFORE], words[BEFORE:]

  def words(self, frame):
    return 1, 2

  def look(self, item):
    _, shown = self.made[item.id]
    if shown is None:
      return pairs.Shown(item.id, item.id)
    grid, patches = shown
    return pairs.Shown(item.id, item.id, (('image', patches),), (grid,),
                       (None,))

  def see_medium(self, name, kind, source):
    return source

  def _said(self, name):
    words, shown = self.made[name]
    count = 0 if shown is None else np.prod(shown[0]) // 4
    return np.concatenate([
        np.full(count, self.special['image'], np.int32), words])

  def head(self, query, frame=None, instruction=None):
    return np.concatenate([self._before, self._said(query.id)])

  def tokens(self, query, candidate, frame=None, instruction=None):
    return np.concatenate([
        self.head(query), self._said(candidate.id), self._after])

  def pad(self, inputs, shape):
    return reader.pad(inputs, inputs_lib.Shape(*shape), self.special)


def make(preset, queries, candidates, seed=0):
  """({id: what Ready reads}, queries, candidates), of mixed sizes."""
  rng = np.random.default_rng(seed)
  made = {}
  def add(name, kind, shows, says):
    words = rng.integers(3, preset.config.decoder.vocab_size - 2, (
        rng.integers(*WORDS[kind]) if says else 0)).astype(np.int32)
    shown = None
    if shows:
      h, w = 2 * rng.integers(*preset.sides, 2, endpoint=True)
      shown = (1, int(h), int(w)), rng.integers(
          0, 256, (h * w, preset.config.vision.patch_values), np.uint8)
    made[name] = words, shown
    return types.Item(name, text=name)
  asked = [add(f'query {i}', 'query', i % 2, True) for i in range(queries)]
  return made, asked, [add(f'candidate {i}', 'candidate', i % 4 != 3, i % 2)
                       for i in range(candidates)]


class Job:
  """Our side: a Reranker, queries and candidates."""

  def __init__(self, preset, n_queries, n_candidates):
    self.config = preset.config
    made, self.queries, self.candidates = make(
        preset, n_queries, n_candidates)
    mesh = sharding.make_mesh()
    params = jax.jit(lambda key: qwen3_vl.init(preset.config, key))(
        jax.random.key(0))
    self.model = reranker.Reranker(
        preset.config, params, Ready(preset.config, made), mesh)

  def run(self, seed):
    """Log odds [Q, C]; both are given in another order."""
    rng = np.random.default_rng(seed)
    rows, columns = (rng.permutation(len(items)) for items in (
        self.queries, self.candidates))
    found = np.empty((len(rows), len(columns)), np.float32)
    found[np.ix_(rows, columns)] = self.model.rerank(
        [self.queries[i] for i in rows], [self.candidates[i] for i in columns],
        show_progress=False).log_odds
    return found

  def compiled(self):
    """How many programs there are."""
    return sum(program._cache_size() for program in (
        *pair_scores.programs(self.config),
        media_features.compiled(self.config)))

  def pairs(self):
    """[(query, candidate, Inputs)] of all, each a whole prompt."""
    frame = question_frames.FRAMES['yes_no']
    read = self.model.reader
    return [(q, c, read(query, candidate, None, frame))
            for q, query in enumerate(self.queries)
            for c, candidate in enumerate(self.candidates)]


def measure(options):
  """The JSON object of one run."""
  preset = PRESETS[options.preset]
  job = Job(preset, options.queries or preset.queries, options.candidates)
  machine.log('compiling')
  start = time.perf_counter()
  found = job.run(0)
  compiling, shapes = time.perf_counter() - start, job.compiled()
  runs = {'ours': lambda: job.run(len(seconds['ours']) + 1)}
  if options.baseline:
    from jaxret.bench import torch_rerank
    whole = job.pairs()
    chosen = np.random.default_rng(0).permutation(len(whole))[
        :options.baseline_pairs]
    sample = [whole[i] for i in chosen]
    baseline = torch_rerank.Baseline(
        job.config, job.model, sample, options.baseline_batch)
    runs['transformers'] = baseline.run
    difference = float(np.abs(baseline.run() - [
        found[q, c] for q, c, _ in sample]).max())
  seconds = {name: [] for name in runs}
  for _ in range(options.rounds):
    for name, run in runs.items():
      with machine.timed(seconds[name]):
        run()
      machine.log(f'{name}: {seconds[name][-1][0]:.2f} s')
  result = {'preset': options.preset, **_facts(job, seconds['ours']),
            'compile_seconds': compiling, 'compiled': shapes,
            'compiled_after_warm_up': job.compiled() - shapes}
  if options.baseline:
    result |= _compared(result, seconds['transformers'], len(sample))
    result |= {'baseline': options.baseline, 'max_abs_difference': difference}
  return result


def _facts(job, seconds):
  taken, cpu = map(statistics.median, zip(*seconds))
  n_pairs = len(job.queries) * len(job.candidates)
  whole = job.pairs()
  return {'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
          'parameters': multimodal.n_parameters(job.model.params),
          'queries': len(job.queries), 'candidates': len(job.candidates),
          'tokens_of_whole_pairs': sum(len(one.tokens) for *_, one in whole),
          'seconds': taken, 'cpu_seconds': cpu,
          'all_seconds': [one for one, _ in seconds],
          'pairs_per_s': n_pairs / taken}


def _compared(ours, seconds, n_pairs):
  taken, cpu = map(statistics.median, zip(*seconds))
  share = n_pairs / (ours['queries'] * ours['candidates'])
  return {'baseline_pairs': n_pairs, 'baseline_seconds': taken,
          'baseline_cpu_seconds': cpu, 'baseline_pairs_per_s': n_pairs / taken,
          'speedup': taken / (share * ours['seconds']),
          'cpu_speedup': cpu / (share * ours['cpu_seconds'])}


if __name__ == '__main__':
  sys.exit(main())
