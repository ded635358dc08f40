"""A method small enough to train anywhere, for the tests of the loop.

Run as a program it trains and writes the parameters it ends with:
  python -m tests.tiny_training WORKDIR RESULT.npz [--kill_during_save=STEP]
      [--kill_at_example=N] [--epochs=E]
"""
import argparse
import itertools
import os
import pathlib
import signal
import threading
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxret import sharding, train
from jaxret.methods import base

WIDTH = 8


class Examples:
  """Points whose targets are rows of a table that every step sees.

  on_read: called with the number of reads so far, before each read.
  """

  def __init__(self, n_examples=64, nan_at=None):
    random = np.random.default_rng(0)
    self.ids = [f'item{i}' for i in range(n_examples)]
    self.constants = {
        'table': random.normal(size=(16, WIDTH)).astype(np.float32)}
    self._inputs = random.normal(size=(n_examples, WIDTH)).astype(np.float32)
    if nan_at is not None:
      self._inputs[nan_at] = np.nan
    self._reads = itertools.count()
    self.on_read = lambda n_reads: None

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    self.on_read(next(self._reads))
    return {'input': self._inputs[index], 'row': np.int32(index % 16)}


def init(key):
  kernels = jax.random.normal(key, (4, WIDTH, WIDTH))  # one draw: fast to build
  return {'params': {
      'decoder': {'layers': {'mlp': {'up': {'kernel': kernels[:2] / 3}},
                             'mlp_norm': {'scale': jnp.ones((2, WIDTH))}}},
      'visual_head': {'kernel': kernels[2]},
      'video_projection': {'kernel': kernels[3]}}}


def loss(params, constants, batch, key):
  params = params['params']
  x = batch['input'] @ params['video_projection']['kernel']
  layers = params['decoder']['layers']
  for kernel, scale in zip(layers['mlp']['up']['kernel'],
                           layers['mlp_norm']['scale']):
    x = jnp.tanh(x @ kernel) * scale
  if key is not None:
    x *= jax.random.bernoulli(key, 0.9, x.shape)
  error = x @ params['visual_head']['kernel'] - constants['table'][batch['row']]
  losses = jnp.mean(error ** 2, -1)
  return losses, {'largest': jnp.max(losses)}


def make_method(trainable=('params/(decoder|visual_head)/.*',)):
  return base.Method(
      name='tiny', init=init, load=None, loss=loss,
      examples=lambda split, visuals: Examples(), trainable=trainable,
      train_flops=lambda batch: 6.0 * batch['input'].size * WIDTH * 4,
      tokens=lambda batch: len(batch['row']))


def make_config(**train_fields):
  config = ml_collections.ConfigDict({
      'task': 'train_and_evaluate', 'method': 'tiny', 'seed': 3,
      'mesh': {'data': -1, 'fsdp': 1, 'tensor': 1},
      'optim': {'learning_rate': 0.02, 'betas': (0.9, 0.95), 'eps': 1e-8,
                'weight_decay': 0.1, 'warmup_epochs': 1.0,
                'min_learning_rate': 0.0, 'gradient_clip_norm': 1.0},
      'train': {'batch_size': 16, 'epochs': 3.0, 'accumulation_steps': 2,
                'log_every_steps': 4, 'checkpoint_every_steps': 4,
                'keep_checkpoints': 2}})
  config.train.update(train_fields)
  return config.lock()


def kill_during_save(directory, step):
  """Ends this process the moment that a step is being written."""
  def watch():
    while not any(part.is_dir() and 'tmp' in part.name and any(part.iterdir())
                  for part in directory.glob(f'{step}.*')):
      time.sleep(1e-3)
    os.kill(os.getpid(), signal.SIGKILL)
  threading.Thread(target=watch, daemon=True).start()


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('result')
  parser.add_argument('--kill_during_save', type=int)
  parser.add_argument('--kill_at_example', type=int)
  parser.add_argument('--epochs', type=float, default=3.0)
  args = parser.parse_args()
  sharding.start()
  if args.kill_during_save:
    kill_during_save(args.workdir / 'checkpoints', args.kill_during_save)
  examples = Examples()
  if args.kill_at_example is not None:
    examples.on_read = lambda n_reads: n_reads == args.kill_at_example and (
        os.kill(os.getpid(), signal.SIGKILL))
  config = make_config(epochs=args.epochs)
  devices = jax.devices()[:1] if jax.process_count() == 1 else None
  mesh = sharding.make_mesh(config.mesh, devices)
  params = train.fit(make_method(), examples, config, args.workdir, mesh)
  flat = sharding.flatten(sharding.to_host(params))
  if jax.process_index() == 0:
    np.savez(args.result, **flat)


if __name__ == '__main__':
  main()
