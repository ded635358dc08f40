"""Embedding throughput: texts, images and videos of mixed sizes in one call.

  python -m jaxret.bench.embedding [--preset=50m] [--items=N] [--rounds=3]
      [--baseline=torch | --baseline=sorted-torch]

Random weights and items, read and tokenized beforehand for both. The first
call compiles; the timed ones get the items in other orders. The baseline is
transformers' Qwen2-VL with the same weights, without gradients, on batches of
as many items: `torch` in the order given, `sorted-torch` by length, which pads
less. Rounds of both alternate; medians are printed, as one JSON object, the
last thing on standard output. Padding counts as our time, but making batches
for the baseline does not.
"""
import argparse
import json
import statistics
import sys
import time

import jax
import numpy as np

from jaxret import embedder as embedding
from jaxret import process_settings, sharding
from jaxret.bench import machine, multimodal
from jaxret.data import types
from jaxret.models.qwen2_vl import model as qwen2_vl

BASELINES = ('torch', 'sorted-torch')


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  preset = multimodal.PRESETS[options.preset]
  print(json.dumps(measure(options, preset)))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.embedding')
  parser.add_argument('--preset', choices=multimodal.PRESETS, default='50m')
  parser.add_argument('--items', type=machine.positive,
                      help='how many; default: as preset')
  parser.add_argument('--batch_size', type=machine.positive,
                      help='default: as preset')
  parser.add_argument('--rounds', type=machine.positive, default=3,
                      help='timed, of each')
  parser.add_argument('--baseline', choices=BASELINES,
                      help='what to compare with, in PyTorch on the CPU')
  return parser.parse_args(argv)


class Job:
  """Our side: an Embedder and the items that it is given."""

  def __init__(self, preset, n_items, batch_size):
    self.config, self.batch_size = preset.config, batch_size
    self.inputs = multimodal.mixed(preset, n_items)
    mesh = sharding.make_mesh()
    self.model = embedding.Embedder(
        preset.config, multimodal.init_params(preset.config, mesh),
        multimodal.Ready(preset.config, self.inputs), mesh)

  def run(self, order):
    """Embeddings [N, D] of the items, which are given in another order."""
    items = [types.Item(self.inputs[i].id) for i in order]
    found = np.empty((len(items), self.model.width), np.float32)
    found[order] = self.model.encode(
        items, batch_size=self.batch_size, show_progress=False)
    return found


class Torch:
  """The baseline: the same items in batches that were made beforehand."""

  def __init__(self, job, by_length):
    from jaxret.bench import torch_qwen2_vl
    config = job.config
    self.model = torch_qwen2_vl.Model(
        config, job.model.params, multimodal.special(config))
    order = np.arange(len(job.inputs))
    if by_length:
      order = np.argsort([len(one.tokens) for one in job.inputs])
    self.order = order
    self.batches = [
        self.model.batch([job.inputs[i] for i in order[start:start
                                                       + job.batch_size]])
        for start in range(0, len(order), job.batch_size)]

  def run(self):
    import torch
    with torch.inference_mode():
      rows = [self.model.embed(batch).numpy() for batch in self.batches]
    found = np.empty((len(self.order), rows[0].shape[1]), np.float32)
    found[self.order] = np.concatenate(rows)
    return found


def measure(options, preset):
  """The JSON object of one run."""
  n_items = options.items or preset.items
  job = Job(preset, n_items, options.batch_size or preset.batch_size)
  machine.log(f'compiling for {n_items} items')
  start = time.perf_counter()
  vectors = job.run(np.arange(n_items))
  compiling = time.perf_counter() - start
  shapes = job.model.embed._cache_size()
  timed = {'ours': lambda n: job.run(
      np.random.default_rng(n).permutation(n_items))}
  if options.baseline:
    other = Torch(job, options.baseline == 'sorted-torch')
    timed['torch'] = lambda n: other.run()
    difference = float(np.abs(other.run() - vectors).max())
  seconds = {name: [] for name in timed}
  for number in range(options.rounds):
    for name, run in timed.items():
      start = time.perf_counter()
      run(number)
      seconds[name].append(time.perf_counter() - start)
      machine.log(f'{name}: {n_items} items in {seconds[name][-1]:.2f} s')
  result = _facts(job, seconds['ours']) | {
      'preset': options.preset, 'compile_seconds': compiling,
      'compiled': shapes,
      'compiled_after_warm_up': job.model.embed._cache_size() - shapes}
  if options.baseline:
    taken = statistics.median(seconds['torch'])
    result |= {
        'baseline': options.baseline, 'baseline_seconds': taken,
        'all_baseline_seconds': seconds['torch'],
        'baseline_items_per_s': n_items / taken,
        'speedup': taken / result['seconds'], 'max_abs_difference': difference}
  return result


def _facts(job, seconds):
  taken, inputs = statistics.median(seconds), job.inputs
  c = job.config.decoder
  speeds = machine.matmul_flops_per_s(
      [(2048,) * 3, (2048, c.width, c.mlp_width)], c.dtype)
  flops = sum(qwen2_vl.flops(
      job.config, len(one.tokens),
      [h * w for t, h, w in one.grids for _ in range(t)]) for one in inputs)
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'parameters': multimodal.n_parameters(job.model.params),
      'items': len(inputs), 'batch_size': job.batch_size,
      'tokens': sum(len(one.tokens) for one in inputs),
      'patches': multimodal.n_patches(inputs), 'seconds': taken,
      'all_seconds': seconds, 'items_per_s': len(inputs) / taken,
      'flops_per_s': flops / taken, 'peak_flops_per_s': max(speeds.values()),
      'utilization': flops / taken / max(speeds.values())}


if __name__ == '__main__':
  sys.exit(main())
