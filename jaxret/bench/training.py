"""Training throughput: contrastive steps on captions and images.

  python -m jaxret.bench.training [--preset=50m] [--pairs=N] [--steps=5]
      [--attention=heads] [--remat=dots] [--baseline=torch]

Random weights and pairs; all parameters are trained by Adam. Images fill one
budget of tokens in several aspect ratios. The baseline is transformers'
Qwen2-VL in PyTorch with the same weights, batches, loss and optimizer; steps
of both alternate, the first of each, which compiles, is not timed. Prints one
JSON object as the last thing on standard output; `max_abs_difference` is that
of the losses of all steps.
"""
import argparse
import functools
import json
import statistics
import sys
import time
import types

import jax
import numpy as np
import optax

from jaxret import optim, process_settings, sharding, train
from jaxret.bench import machine, multimodal
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.methods import base
from jaxret.methods.unite import method as unite
from jaxret.models import attention
from jaxret.models.qwen2_vl import model as qwen2_vl

LEARNING_RATE, TEMPERATURE = 1e-4, 0.05
LOSS = types.SimpleNamespace(
    temperature=TEMPERATURE, dual=False, modality_mask=False,
    multi_positive=False, released=True)


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  preset = multimodal.PRESETS[options.preset]
  print(json.dumps(measure(options, preset._replace(
      config=multimodal.with_fields(
          preset.config, attention=options.attention,
          remat=options.remat)))))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.training')
  parser.add_argument('--preset', choices=multimodal.PRESETS, default='50m')
  parser.add_argument('--pairs', type=machine.positive,
                      help='in a batch; default: as preset')
  parser.add_argument('--steps', type=machine.positive, default=5,
                      help='timed, of each')
  parser.add_argument('--attention', choices=attention.ATTENTION,
                      default='xla', help='see model.attention')
  parser.add_argument('--remat', choices=('none', 'dots', 'full'),
                      default='none', help='see model.remat')
  parser.add_argument('--baseline', choices=('torch',),
                      help='what to compare with, in PyTorch on the CPU')
  return parser.parse_args(argv)


class Job:
  """Our side: a state and the jitted step that changes it."""

  def __init__(self, config, params, mesh, pairs):
    self.config, self.mesh = config, mesh
    self.readers = [multimodal.Ready(config, inputs) for inputs in pairs]
    # One shape of each side for all batches, so that one program does.
    self.shapes = [inputs_lib.common_shape(list(map(ready.bucket, inputs)))
                   for ready, inputs in zip(self.readers, pairs)]
    method = base.Method(
        'unite', init=None, load=None, examples=None, trainable=('.*',),
        loss=functools.partial(
            unite.loss, config, functools.partial(unite.embedding_loss, LOSS)),
        train_flops=None, tokens=None)
    optimizer = optax.adam(LEARNING_RATE)
    trainable, self.frozen = optim.partition(params, method.trainable)
    self.state = train.init_state(optimizer, trainable, mesh)
    self.update = train.make_update(method, optimizer, mesh, 0, 1)

  def batch(self, sides):
    """Arrays of (captions, images) on the mesh."""
    found = {}
    for side, inputs, ready, shape in zip(
        ('query', 'candidate'), sides, self.readers, self.shapes):
      found |= {f'{side}_{name}': array
                for name, array in ready.pad(inputs, shape).items()}
    found['positive'] = np.arange(len(sides[0]), dtype=np.int32)
    return sharding.global_batch(self.mesh, found)

  def step(self, batch):
    self.state, metrics = self.update(self.state, self.frozen, {}, batch)
    return float(metrics['loss'])


class Torch:
  """The baseline's model, loss and optimizer."""

  def __init__(self, config, params):
    import torch

    from jaxret.bench import torch_qwen2_vl
    self.torch = torch
    self.model = torch_qwen2_vl.Model(
        config, params, multimodal.special(config))
    self.optimizer = torch.optim.Adam(
        self.model.qwen2_vl.parameters(), LEARNING_RATE)

  def batch(self, sides):
    return [self.model.batch(inputs) for inputs in sides]

  def step(self, batch):
    query, candidate = map(self.model.embed, batch)
    loss = self.torch.nn.functional.cross_entropy(
        query @ candidate.T / TEMPERATURE, self.torch.arange(len(query)))
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
    return loss.item()


def measure(options, preset):
  """The JSON object of one run."""
  n_pairs, mesh = options.pairs or preset.pairs, sharding.make_mesh()
  params = multimodal.init_params(preset.config, mesh)
  n_parameters = multimodal.n_parameters(params)
  # First: the state takes over the buffers of the parameters.
  others = {'torch': Torch(preset.config, params)} if options.baseline else {}
  pairs = multimodal.pairs(preset, n_pairs * (options.steps + 1))
  sides = {'ours': Job(preset.config, params, mesh, pairs), **others}
  seconds, losses = ({name: [] for name in sides} for _ in range(2))
  batches = [tuple(side[start:start + n_pairs] for side in pairs)
             for start in range(0, len(pairs[0]), n_pairs)]
  for batch in batches:
    for name, side in sides.items():
      ready = side.batch(batch)
      start = time.perf_counter()
      losses[name].append(side.step(ready))
      seconds[name].append(time.perf_counter() - start)
      machine.log(f'{name}: loss {losses[name][-1]:.5f}, '
                  f'{seconds[name][-1]:.2f} s')
  taken = statistics.median(seconds['ours'][1:])
  flops = statistics.mean(_flops(preset.config, batch)
                          for batch in batches[1:])
  result = {
      'preset': options.preset, 'attention': options.attention,
      'remat': options.remat,
      'device': jax.devices()[0].device_kind,
      'devices': jax.device_count(), 'parameters': n_parameters,
      'pairs': n_pairs, 'steps': options.steps, 'seconds': taken,
      'all_seconds': seconds['ours'][1:], 'first_seconds': seconds['ours'][0],
      'pairs_per_s': n_pairs / taken, 'flops_per_s': flops / taken,
      **_utilization(preset.config, flops / taken)}
  if options.baseline:
    other = statistics.median(seconds['torch'][1:])
    result |= {
        'baseline': options.baseline, 'baseline_seconds': other,
        'all_baseline_seconds': seconds['torch'][1:],
        'baseline_pairs_per_s': n_pairs / other, 'speedup': other / taken,
        'max_abs_difference': float(np.abs(np.subtract(
            losses['ours'], losses['torch'])).max())}
  return result


def _flops(config, batch):
  """Forward and backward, padding aside."""
  return 3 * sum(
      qwen2_vl.flops(config, len(one.tokens),
                     [h * w for t, h, w in one.grids for _ in range(t)])
      for side in batch for one in side)


def _utilization(config, flops_per_s):
  c = config.decoder
  speeds = machine.matmul_flops_per_s(
      [(2048,) * 3, (2048, c.width, c.mlp_width)], c.dtype)
  return {'peak_flops_per_s': max(speeds.values()),
          'utilization': flops_per_s / max(speeds.values())}


if __name__ == '__main__':
  sys.exit(main())
