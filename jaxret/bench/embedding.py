"""Embedding throughput: texts, images and videos of mixed sizes in one call.

  python -m jaxret.bench.embedding [--model=qwen2_vl | qwen3_vl | clip]
      [--preset=50m] [--items=N] [--rounds=3] [--attention=heads]
      [--baseline=torch | --baseline=sorted-torch]

Random weights and items, read and tokenized beforehand for both. The first
call compiles; the timed ones get the items in other orders. The baseline is
transformers' model with the same weights, without gradients, on batches of
as many items: `torch` in the order given, `sorted-torch` by length, which pads
less; of CLIP texts and images apart. On a machine that others use too the ratio
of CPU times, `cpu_speedup`, says more than `speedup`. Rounds of both alternate;
medians are printed, as one JSON object, the last thing on standard output.
Padding counts as our time, but making batches for the baseline does not.
"""
import argparse
import collections
import json
import statistics
import sys
import time

import jax
import numpy as np

from jaxret import embedder as embedding
from jaxret import process_settings, sharding
from jaxret.bench import clip_items, machine, multimodal, qwen3_vl_items
from jaxret.data import types
from jaxret.models import attention

# Each has PRESETS of one another's names and what `Job` and `Torch` call.
MODELS = {'qwen2_vl': multimodal, 'qwen3_vl': qwen3_vl_items,
          'clip': clip_items}
BASELINES = ('torch', 'sorted-torch')


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  print(json.dumps(measure(options)))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.embedding')
  parser.add_argument('--model', choices=MODELS, default='qwen2_vl')
  parser.add_argument('--preset', default='50m',
                      help="'tiny', '50m', and '2b' of qwen2_vl")
  parser.add_argument('--items', type=machine.positive,
                      help='how many; default: as preset')
  parser.add_argument('--batch_size', type=machine.positive,
                      help='default: as preset')
  parser.add_argument('--rounds', type=machine.positive, default=3,
                      help='timed, of each')
  parser.add_argument('--attention', choices=attention.ATTENTION,
                      default='xla', help='see model.attention')
  parser.add_argument('--baseline', choices=BASELINES,
                      help='what to compare with, in PyTorch on the CPU')
  options = parser.parse_args(argv)
  presets = MODELS[options.model].PRESETS
  if options.preset not in presets:
    parser.error(f'--preset: got {options.preset}, want one of '
                 f'{", ".join(presets)}')
  return options


class Job:
  """Our side: an Embedder and the items that it is given.

  kind: of the model, one of MODELS.
  """

  def __init__(self, kind, preset, n_items, batch_size):
    self.kind, self.config, self.batch_size = kind, preset.config, batch_size
    self.inputs = kind.mixed(preset, n_items)
    mesh = sharding.make_mesh()
    self.model = embedding.Embedder(
        preset.config, kind.init_params(preset.config, mesh),
        kind.Ready(preset.config, self.inputs), mesh)

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
    kind, inputs = job.kind, job.inputs
    self.model = kind.torch_model(job.config, job.model.params)
    groups = collections.defaultdict(list)
    for i in sorted(range(len(inputs)), key=lambda i: (
        kind.length(inputs[i]) if by_length else 0)):
      groups[kind.kind(inputs[i])].append(i)
    parts = [group[start:start + job.batch_size] for group in groups.values()
             for start in range(0, len(group), job.batch_size)]
    self.order = np.concatenate(parts)
    self.batches = [self.model.batch([inputs[i] for i in part])
                    for part in parts]

  def run(self):
    import torch
    with torch.inference_mode():
      rows = [self.model.embed(batch).numpy() for batch in self.batches]
    found = np.empty((len(self.order), rows[0].shape[1]), np.float32)
    found[self.order] = np.concatenate(rows)
    return found


def measure(options):
  """The JSON object of one run."""
  kind = MODELS[options.model]
  preset = kind.PRESETS[options.preset]
  preset = preset._replace(
      config=multimodal.with_fields(
          preset.config, attention=options.attention))
  n_items = options.items or preset.items
  job = Job(kind, preset, n_items, options.batch_size or preset.batch_size)
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
      with machine.timed(seconds[name]):
        run(number)
      machine.log(f'{name}: {n_items} items in {seconds[name][-1][0]:.2f} s')
  result = _facts(job, seconds['ours']) | {
      'model': options.model, 'preset': options.preset,
      'attention': options.attention,
      'compile_seconds': compiling, 'compiled': shapes,
      'compiled_after_warm_up': job.model.embed._cache_size() - shapes}
  if options.baseline:
    taken, cpu = map(statistics.median, zip(*seconds['torch']))
    result |= {
        'baseline': options.baseline, 'baseline_seconds': taken,
        'all_baseline_seconds': [one for one, _ in seconds['torch']],
        'baseline_items_per_s': n_items / taken,
        'baseline_cpu_seconds': cpu, 'speedup': taken / result['seconds'],
        'cpu_speedup': cpu / result['cpu_seconds'],
        'max_abs_difference': difference}
  return result


def _facts(job, seconds):
  taken, cpu = map(statistics.median, zip(*seconds))
  inputs = job.inputs
  sizes, dtype = job.kind.peak(job.config)
  speeds = machine.matmul_flops_per_s([(2048,) * 3, sizes], dtype)
  counts = job.kind.counts(job.config, inputs)
  flops = counts.pop('flops')
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'parameters': multimodal.n_parameters(job.model.params),
      'items': len(inputs), 'batch_size': job.batch_size, **counts,
      'seconds': taken, 'cpu_seconds': cpu,
      'all_seconds': [one for one, _ in seconds],
      'items_per_s': len(inputs) / taken,
      'flops_per_s': flops / taken, 'peak_flops_per_s': max(speeds.values()),
      'utilization': flops / taken / max(speeds.values())}


if __name__ == '__main__':
  sys.exit(main())
