"""Accelerators that are not at hand, compiled for without one.

TPU slices with libtpu alone, GPUs with the plugin alone, see gpu_nodes.
"""
import importlib.util
import math
import os
import re
import time
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from jaxret import gpu_nodes, process_settings

GIB = 2 ** 30


class Chip(NamedTuple):
  """HBM, and the peak in bfloat16, as the vendor states them.

  per_host: how many a host has, of those that are planned for; host: what a
  slice of one is called behind its kind.
  """
  hbm_gib: float
  peak_flops_per_s: float
  per_host: int = 4
  host: str = '2x2'


CHIPS = {'v5e': Chip(16, 197e12), 'v5p': Chip(95, 459e12, host='2x2x1'),
         'v6e': Chip(32, 918e12)}
CHIPS |= {kind: Chip(
    round(gpu_nodes.SHARE * gpu.memory_bytes / GIB, 1), gpu.peak_flops_per_s,
    gpu_nodes.GPUS_PER_NODE, str(gpu_nodes.GPUS_PER_NODE))
          for kind, gpu in gpu_nodes.GPUS.items()}


class Slice(NamedTuple):
  """A TPU slice or a node of GPUs to compile for, or several of a kind.

  price: dollars for a chip for an hour. quick: compile at the compiler's lowest
  level of optimization; of TPUs.
  """
  name: str
  chip: Chip
  devices: tuple
  price: float = 0.0
  quick: bool = True


class Use(NamedTuple):
  """Bytes per chip.

  arguments: of these, or at least of what is held; total: of all that lives
  while the program runs.
  """
  arguments: int
  total: int
  fits: bool


def open_all(config):
  """The Slices that a `plan` section names."""
  names = [name for name in config.topology.replace(' ', '').split(',') if name]
  prices = [price for price in config.chips_per_hour_price.split(',') if price]
  if not names or len(prices) not in (0, 1, len(names)):
    raise ValueError(
        f'plan.topology names {len(names)} slices, plan.chips_per_hour_price '
        f'{len(prices)} prices: give at least one slice, and one price for all '
        'or one for each')
  try:
    prices = [float(price) for price in prices or [0]]
  except ValueError:
    raise ValueError(f'plan.chips_per_hour_price {prices} holds what is no '
                     'number: write 1.2 or 1.2,4.2') from None
  if len(prices) == 1:
    prices *= len(names)
  return [open_one(name, price, config.quick)
          for name, price in zip(names, prices)]


def open_one(name, price=0.0, quick=True):
  """A Slice by a name such as v5e:4x4 or h100:8, or 2xv5e:4x4 for two."""
  count, topology_name = re.fullmatch(r'(?:([1-9]\d*)x)?(.*)', name).groups()
  kind, _, shape = topology_name.partition(':')
  if kind not in CHIPS:
    raise ValueError(f'plan.topology names {name!r}: its kind is one of '
                     f'{", ".join(CHIPS)}, as in v5e:4x4, 2xv5e:4x4 or h100:8')
  if kind in gpu_nodes.GPUS:
    if not re.fullmatch(r'[1-8]', shape):
      raise ValueError(f'plan.topology names {name!r}: a node has 1 to 8 GPUs, '
                       f'as in {kind}:8; two of them are 2x{kind}:8')
    found = gpu_nodes.devices(kind, int(count or 1), int(shape))
    return Slice(name, CHIPS[kind], found, price, False)
  return Slice(name, CHIPS[kind], _tpus(name, int(count or 1), topology_name),
               price, quick)


def one_host(part):
  """The Slice of one host of a slice: what its own chips are compiled for."""
  if len(part.devices) <= part.chip.per_host:
    return part
  kind = re.fullmatch(r'(?:\d+x)?(\w+):.*', part.name)[1]
  return open_one(f'{kind}:{part.chip.host}', part.price, part.quick)


def _tpus(name, count, topology_name):
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError("task 'plan' needs the TPU compiler, libtpu: install the "
                     "extra `tpu`, pip install -e '.[tpu]'")
  # No TPU is looked for, nor kept from other processes: the compiler is all
  # that is wanted.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', 'true')
  from jax.experimental import topologies
  try:
    return tuple(topologies.get_topology_desc(
        platform='tpu', topology_name=topology_name,
        **({'num_slices': count} if count > 1 else {})).devices)
  except (RuntimeError, ValueError) as error:
    raise ValueError(f'plan.topology {name!r} is no slice that libtpu knows: '
                     f'{error}') from None


def compile_for(part, lowered, name, held=()):
  """(compiled or None, Use) of a program on a slice.

  held: placed shapes that lie on the chips meanwhile, used or not.
  """
  start = time.perf_counter()
  budget = part.chip.hbm_gib * GIB
  try:
    with process_settings.without_cache():
      compiled = lowered.compile(
          {'optimization_level': 9} if part.quick else None)  # 9 is O0
    memory = compiled.memory_analysis()
    arguments = max(memory.argument_size_in_bytes, chip_bytes(held))
    total = (arguments + memory.output_size_in_bytes
             - memory.alias_size_in_bytes + memory.temp_size_in_bytes
             + memory.generated_code_size_in_bytes)
    use = Use(arguments, total, total <= budget)
  except jax.errors.JaxRuntimeError as error:
    compiled, use = None, Use(chip_bytes(held), too_much(error), False)
  logging.info('%s, %s: %.1f of %g GiB, compiled in %.0f s', part.name, name,
               use.total / GIB, part.chip.hbm_gib,
               time.perf_counter() - start)
  return compiled, use


def chip_bytes(tree):
  """What one chip holds of a tree of placed shapes."""
  return sum(math.prod(leaf.sharding.shard_shape(leaf.shape))
             * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def too_much(error):
  """The bytes that a program wants that the compiler refuses to fit.

  Of one whose temporaries alone are too much it names these.
  """
  found = re.search(
      r'Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm'
      r'|HLO temporaries \(([\d.]+)([KMGT])\) exceeds', str(error))
  if not found:
    raise error
  size, unit = found[1] or found[3], found[2] or found[4]
  return int(float(size) * 1024 ** ('KMGT'.index(unit) + 1))


def about_largest(size, use, cap, part):
  """About the largest size up to `cap` that fits, from one compilation.

  Takes all but the arguments to grow in proportion, so a program that also
  holds what does not grow (a layer's gathered weights) fits more than this.
  """
  growing = max((use.total - use.arguments) / size, 1.0)
  budget = 0.97 * part.chip.hbm_gib * GIB - use.arguments
  return int(np.clip(budget / growing, 0, cap))


def find_largest(use_of, size, use, cap, part):
  """The largest size up to `cap` that fits; `use` is that of `size`.

  A second size is tried that fits if memory grows in proportion; the two give
  a line, and a third, where it meets the memory, confirms it. A fourth is
  taken where the third does not fit.
  """
  budget = 0.97 * part.chip.hbm_gib * GIB
  uses, other = {size: use}, size // 2
  if use.fits:
    other = size * (budget - use.arguments) / (use.total - use.arguments)
  other = cap if other > 0.85 * cap else max(int(other), 1)
  if other == size:
    return size if use.fits else 0
  uses[other] = use_of(other)
  slope = (uses[other].total - use.total) / (other - size)
  guess = size + (budget - use.total) / max(slope, 1.0)
  for share in (1.0, 0.85):
    guess = int(np.clip(share * guess, 1, cap))
    if guess not in uses:
      uses[guess] = use_of(guess)
    if uses[guess].fits:
      break
  return max((n for n, use in uses.items() if use.fits), default=0)
