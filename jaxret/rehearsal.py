"""A run on accelerators that are not at hand: its programs, what it costs.

With libtpu installed any machine runs the TPU compiler, with CUDA's plugin that
of GPUs. Programs are compiled at full size for each slice of
`config.plan.topology`: the real ones, for arrays that are not there. The
compiler says what a chip must hold; FLOPs and hours are counted, and how many
cores of the hosts must read what the chips take.
"""
import concurrent.futures
import functools
import json
import operator
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxret import (
  executed_flops,
  files,
  input_speed,
  methods,
  optim,
  sharding,
  tpu_slices,
  train,
)
from jaxret.data import text as text_lib
from jaxret.methods import base


class Model(NamedTuple):
  """What is planned for: the method and its abstract parameters."""
  config: ConfigDict
  method: base.Method
  params: dict


def build(config: ConfigDict) -> Model:
  """The Model of a config; of `model.pretrained` the sizes alone are read.

  Raises ValueError for a config whose sizes depend on a tokenizer.
  """
  if not (config.model.pretrained or config.model.vocab_size):
    raise ValueError('model.vocab_size is 0, from the tokenizer: task '
                     "'plan' reads none, set it")
  method = methods.get(config.method).method(
      config, word_tokenizer(config.model.vocab_size))
  return Model(config, method, jax.eval_shape(method.init, jax.random.key(0)))


_CONTROL = r'<\|\w+\|>|</?s>|<image>|<pad>'


def word_tokenizer(vocab_size: int) -> text_lib.Tokenizer:
  """One token per word, mark and line; Qwen2 cuts the prompts into as many.

  Control tokens, of LLaVA too, have ids of their own, all else is 0.
  """
  controls: dict[str, int] = {}
  def encode(text):
    tokens = re.findall(rf'{_CONTROL}|\w+|[^\w\s]\n?|\n', text)
    return [controls.setdefault(token, len(controls) + 1)
            if re.fullmatch(_CONTROL, token) else 0 for token in tokens]
  return text_lib.Tokenizer(encode, lambda ids: '', 0, 0, vocab_size)


def layout(config: ConfigDict, part: tpu_slices.Slice) -> tuple[Mesh, int]:
  """(mesh, accumulation steps): the config's, as far as its batch allows.

  Where the batch has fewer rows than `data` and `fsdp` have chips, `tensor`
  takes the rest; micro-batches are made larger until they fill the chips. A
  batch that no mesh divides is that of `rows_of` on the config's own.
  """
  size = config.train.batch_size
  shape = config.mesh.to_dict()
  mesh = own = sharding.make_mesh(shape, part.devices)
  if config.eval.get('zero_shot', False):
    return mesh, 1
  while size % sharding.batch_shards(mesh):
    shape['tensor'] *= 2
    try:
      mesh = sharding.make_mesh(shape, part.devices)
    except ValueError:  # more than there are chips
      mesh = own
      break
  rows = rows_of(config, mesh) // sharding.batch_shards(mesh)
  accumulation = max(
      steps for steps in range(1, config.train.accumulation_steps + 1)
      if rows % steps == 0)
  return mesh, accumulation


def rows_of(config: ConfigDict, mesh: Mesh) -> int:
  """The rows of an update: the config's, or the next that a mesh divides."""
  shards = sharding.batch_shards(mesh)
  return -(-config.train.batch_size // shards) * shards


def slices_of(model: Model, parts: Sequence[tpu_slices.Slice],
              works: Sequence[Callable], job: Mapping[str, float],
              inputs: Mapping[str, input_speed.Input] | None = None) -> list:
  """What plan.json says of each slice; one compiler per core.

  works: functions (model, slice, mesh, accumulation steps) -> {program: as
  `describe` has it}, what takes longest first, so that no core waits for it in
  the end. job: {'training', say: minimal FLOPs}. inputs: {of these: what is
  read for it}.
  """
  layouts = [layout(model.config, part) for part in parts]
  cores = len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(cores) as pool:
    waiting = [[pool.submit(work, model, part, *how)
                for part, how in zip(parts, layouts)] for work in works]
    programs = [functools.reduce(operator.or_, (p.result() for p in found))
                for found in zip(*waiting)]
  return [{
      'slice': part.name, 'chips': len(part.devices),
      'hbm_gib': part.chip.hbm_gib, 'mesh': dict(mesh.shape),
      'accumulation_steps': accumulation, 'programs': done,
      'proposals': sorted({flag for program in done.values()
                           for flag in program.get('flags', ())}),
      'jobs': cost(part, job, model.config.plan.utilization, inputs)}
      for part, (mesh, accumulation), done in zip(parts, layouts, programs)]


def cost(part: tpu_slices.Slice, job: Mapping[str, float], utilization: float,
         inputs: Mapping[str, input_speed.Input] | None = None
         ) -> dict[str, dict[str, float]]:
  """{job: its FLOPs, hours and dollars on a slice}.

  Of what is read besides: items per second that the chips take, how many a core
  of a host makes, and how many cores there must be, in all and on each host.
  """
  chips = len(part.devices)
  speed = chips * part.chip.peak_flops_per_s * utilization
  found = {name: {'flops': flops, 'hours': flops / speed / 3600,
                  'dollars': flops / speed / 3600 * chips * part.price}
           for name, flops in job.items()}
  hosts = max(1, chips // part.chip.per_host)
  for name, (items, core_seconds) in (inputs or {}).items():
    per_second = items * speed / job[name]
    found[name] |= {
        'items_per_s': per_second, 'items_per_s_per_core': 1 / core_seconds,
        'host_cores': per_second * core_seconds,
        'cores_per_host': per_second * core_seconds / hosts}
  return found


def largest(model: Model, part: tpu_slices.Slice, use_of: Callable, size: int,
            use: tpu_slices.Use, cap: int) -> int:
  """The largest size that fits: found by compiling more, or about."""
  if model.config.plan.largest:
    return tpu_slices.find_largest(use_of, size, use, cap, part)
  return tpu_slices.about_largest(size, use, cap, part)


def training_step(model: Model, part: tpu_slices.Slice, mesh: Mesh,
                  accumulation: int, example: Mapping[str, Any],
                  constants: Mapping[str, tuple]) -> dict[str, Any]:
  """The training step as `describe` has it, and the largest micro-batch.

  example: arrays of one, as it is padded. constants: {name: (shape, dtype)} of
  what each step sees besides its batch.
  """
  size, shards = rows_of(model.config, mesh), sharding.batch_shards(mesh)
  _, state, frozen = training_state(model, mesh)
  held = frozen, state
  def compiled_of(rows):
    return tpu_slices.compile_for(
        part, _lowered(model, mesh, accumulation, rows, example, constants),
        f'training step, {rows} rows per chip', held)
  rows = size // accumulation // shards
  compiled, use = compiled_of(rows)
  most = largest(model, part, lambda rows: compiled_of(rows)[1], rows, use,
                 size // shards)
  more = work(model, compiled, mesh, example, rows * accumulation * shards)
  flags = []
  if size != model.config.train.batch_size:
    flags.append(f'--config.train.batch_size={size}')
  if not use.fits:
    steps = accumulation_for(size // shards, most)
    more['accumulation_steps_that_fit'] = steps
    flags.append(f'--config.train.accumulation_steps={steps}' if steps
                 else _more_chips(use, part))
  return describe(use, frozen, state, (), flags, size=rows * shards,
                  largest=shards * most, **more)


def work(model: Model, compiled: Any, mesh: Mesh, example: Mapping[str, Any],
         rows: int) -> dict[str, float]:
  """FLOPs of an update of so many rows: those it must take, those it does.

  Executed are products on all chips, padding and what is computed again among
  them, a kernel of attention not; {} where that cannot be read, or nothing was
  compiled.
  """
  if compiled is None:
    return {}
  try:
    executed = executed_flops.executed(compiled)
  except ValueError as error:
    logging.info('executed FLOPs are not known: %s', error)
    return {}
  least = rows * float(model.method.train_flops(
      {name: np.asarray(value)[None] for name, value in example.items()}))
  return {'minimal_flops': least, 'executed_flops': executed * mesh.size}


def proposed(use: tpu_slices.Use, part: tpu_slices.Slice, field: str,
             size: int, step: int = 1) -> list[str]:
  """The flag of a size that fits, where the compiled one does not.

  It is estimated, and a multiple of `step`.
  """
  if use.fits:
    return []
  most = tpu_slices.about_largest(size, use, size, part) // step * step
  return [f'--config.{field}={most}'] if most else [_more_chips(use, part)]


def _more_chips(use, part):
  """What is said where no batch is small enough."""
  if use.arguments < part.chip.hbm_gib * tpu_slices.GIB:
    return 'a larger slice, or --config.mesh.tensor=2'
  return ('a larger slice, or --config.mesh.fsdp=-1: what a chip holds is too '
          'much')


def accumulation_for(rows: int, most: int) -> int | None:
  """Into how many equal parts of at most `most` so many rows are cut."""
  return next((steps for steps in range(1, rows + 1)
               if rows % steps == 0 and rows // steps <= most), None)


def training_state(model: Model, mesh: Mesh) -> tuple:
  """(optimizer, abstract State, abstract frozen parameters)."""
  config = model.config
  trainable, frozen = optim.partition(
      sharding.abstract(mesh, model.params), model.method.trainable)
  # How many steps there are changes a constant in the program, no shape.
  optimizer = optim.make_optimizer(config.optim, optim.schedule(
      config.optim, config.train.epochs, 100))
  return optimizer, train.abstract_state(optimizer, trainable, mesh), frozen


def _lowered(model, mesh, accumulation, rows, example, constants):
  """The training step with `rows` of a micro-batch on each chip."""
  optimizer, state, frozen = training_state(model, mesh)
  batch = batch_of(
      example, rows * accumulation * sharding.batch_shards(mesh), mesh)
  constants = {name: jax.ShapeDtypeStruct(
      shape, dtype, sharding=sharding.constant_sharding(mesh, shape))
      for name, (shape, dtype) in constants.items()}
  update = train.make_update(model.method, optimizer, mesh, 0, accumulation)
  return update.lower(state, frozen, constants, batch)


def batch_of(example: Mapping[str, Any], rows: int, mesh: Mesh
             ) -> dict[str, jax.ShapeDtypeStruct]:
  """The placed shapes of so many rows that are like an example."""
  return {name: jax.ShapeDtypeStruct(
      (rows, *np.shape(value)), np.asarray(value).dtype,
      sharding=sharding.batch_sharding(mesh))
      for name, value in example.items()}


def describe(use: tpu_slices.Use, weights: Any, state: Any, caches: Any,
             flags: Sequence[str] = (), **sizes: Any) -> dict[str, Any]:
  """One program as plan.json has it, GiB per chip; flags: what is proposed."""
  trees = {'weights': weights, 'state': state, 'caches': caches}
  parts = {name: tpu_slices.chip_bytes(tree) for name, tree in trees.items()}
  if use.arguments:
    parts['inputs'] = use.arguments - sum(parts.values())
  parts['temporaries'] = use.total - sum(parts.values())
  parts['total'] = use.total
  gib = {name: round(size / tpu_slices.GIB, 3) for name, size in parts.items()}
  return {'gib': {'inputs': 0.0, **gib}, 'fits': use.fits, **sizes,
          **({'flags': list(flags)} if flags else {})}


def publish(config: ConfigDict, job: Mapping[str, float], slices: list,
            workdir: str | os.PathLike) -> dict[str, Any]:
  """Prints the tables and writes plan.json; returns its content."""
  result = {'config': config.to_dict(), 'job': dict(job), 'slices': slices}
  print(format_memory(
      slices, 'largest' if config.plan.largest else 'largest, about'))
  print(format_job(slices, config.plan.utilization))
  for part in slices:
    for name, program in part['programs'].items():
      if 'executed_flops' in program:
        more = program['executed_flops'] / program['minimal_flops']
        print(f'{part["slice"]}: {name}: the compiled step executes {more:.2f} '
              'times the minimal FLOPs')
    for flag in part['proposals']:
      print(f'{part["slice"]}: what does not fit, or divide, does with {flag}')
  directory = pathlib.Path(workdir)
  directory.mkdir(parents=True, exist_ok=True)
  files.write_atomically(
      directory / 'plan.json', json.dumps(result, indent=2) + '\n')
  return result


def format_memory(slices: list, largest: str) -> str:
  """A table of HBM per chip, in GiB, for people.

  largest: what its last column, of largest sizes that fit, is called.
  """
  columns = ('weights', 'state', 'caches', 'inputs', 'temporaries', 'total')
  rows = [['slice', 'program', 'size', *columns, 'of', 'fits', largest]]
  for part in slices:
    for name, program in part['programs'].items():
      rows.append([
          part['slice'], name, _size(program['size']),
          *(f'{program["gib"][column]:.2f}' for column in columns),
          f'{part["hbm_gib"]:g}', _fits(program),
          _size(program.get('largest', ''))])
  return 'HBM per chip in GiB\n' + _table(rows)


def format_job(slices: list, utilization: float) -> str:
  """A table of FLOPs, hours and costs, for people."""
  rows = [['slice', 'chips', 'mesh', 'accumulation', 'job', 'minimal FLOPs',
           'hours', 'dollars', 'items/s', 'of a core', 'host cores',
           'per host']]
  for part in slices:
    mesh = ' '.join(f'{axis}={size}' for axis, size in part['mesh'].items())
    for name, job in part['jobs'].items():
      rows.append([
          part['slice'], str(part['chips']), mesh,
          str(part['accumulation_steps']), name, f'{job["flops"]:.2e}',
          f'{job["hours"]:.3g}',
          f'{job["dollars"]:.0f}' if job['dollars'] else '-',
          *(f'{job[name]:.3g}' if name in job else '-' for name in (
              'items_per_s', 'items_per_s_per_core', 'host_cores',
              'cores_per_host'))])
  return f'At {utilization:.0%} of peak\n' + _table(rows)


def _fits(program):
  """Whether it does, or how often to accumulate so that it does."""
  steps = program.get('accumulation_steps_that_fit')
  return 'yes' if program['fits'] else (
      f'NO: accumulate {steps} steps' if steps else 'NO')


def _size(size):
  return ' x '.join(map(str, size)) if isinstance(size, list) else str(size)


def _table(rows):
  widths = [max(map(len, column)) for column in zip(*rows)]
  rows.insert(1, ['-' * width for width in widths])
  return '\n'.join('| ' + ' | '.join(
      cell.ljust(width) for cell, width in zip(row, widths)) + ' |'
      for row in rows) + '\n'
