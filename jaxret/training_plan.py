"""How large the batches of a training are, and how many steps it has."""
from typing import NamedTuple

from jaxret import sharding
from jaxret.data import loader


class Plan(NamedTuple):
  """How many steps there are, of how many examples and micro-batches each.

  batch_size: of the config, or what few examples fill, see `make_plan`.
  """
  accumulation_steps: int
  n_examples: int
  steps_per_epoch: int
  total_steps: int
  batch_size: int

  @property
  def epochs(self):
    return self.total_steps / self.steps_per_epoch


def make_plan(config, n_examples, mesh):
  """Turns batch_size, accumulation_steps and epochs (or steps) into a Plan.

  config: the `train` section. A batch larger than the data becomes the largest
  that they fill. Raises ValueError when it does not split over micro-batches
  and devices, or the data do not fill one of each.
  """
  size, micro_batches = config.batch_size, config.accumulation_steps
  parts = micro_batches * sharding.batch_shards(mesh)
  if size < 1 or micro_batches < 1 or size % parts:
    raise ValueError(
        f'train.batch_size {size} does not split into {micro_batches} '
        f'micro-batches over {sharding.batch_shards(mesh)} devices: make it a '
        f'multiple of {max(parts, 1)}')
  if n_examples < parts:
    raise ValueError(
        f'{n_examples} examples to train on do not fill {micro_batches} '
        f'micro-batches over {sharding.batch_shards(mesh)} devices: lower '
        '--config.train.accumulation_steps, or give more data or fewer devices')
  size = min(size, n_examples // parts * parts)
  steps_per_epoch = loader.steps_per_epoch(n_examples, size)
  total = config.get('steps') or round(config.epochs * steps_per_epoch)
  return Plan(micro_batches, n_examples, steps_per_epoch, max(1, total), size)
