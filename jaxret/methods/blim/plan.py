"""Rehearses a run on TPU slices that are not at hand: config.task='plan'.

With libtpu installed any machine runs the TPU compiler. The training step and
the tiles of scoring are compiled at full size for each slice of
`config.plan.topology`: the real programs, for arrays that are not there. The
compiler says what a chip must hold; FLOPs and hours are counted.
"""
import concurrent.futures
import functools
import json
import math
import operator
import os
import pathlib
import re
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxret import files, methods, optim, sharding, tpu_slices, train
from jaxret.data import text as text_lib
from jaxret.data import types
from jaxret.methods import base
from jaxret.scoring.likelihood import abstract
from jaxret.scoring.likelihood import cost as cost_lib


class Model(NamedTuple):
  """What is planned for: the method and its abstract parameters."""
  config: ConfigDict
  method: base.Method
  params: dict


def plan(config, workdir):
  """Prints a table per slice and writes it to plan.json; returns its content.

  Raises ValueError for a slice that the compiler does not know, a config that
  says too little to be planned, or where libtpu is not installed.
  """
  model = build(config)  # cheap, and says what is wrong with the config
  parts = tpu_slices.open_all(config.plan)
  job = count_job(model)
  slices = rehearse(model, parts, job)
  result = {'config': config.to_dict(), 'job': job, 'slices': slices}
  print(format_memory(
      slices, 'largest' if config.plan.largest else 'largest, about'))
  print(format_job(slices, config.plan.utilization))
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  files.write_atomically(
      workdir / 'plan.json', json.dumps(result, indent=2) + '\n')
  return result


def build(config):
  """The Model of a config at the sizes written in it: nothing is read."""
  if config.method != 'blim':
    raise ValueError(f"task 'plan' got method {config.method!r}, wanted 'blim':"
                     ' it plans likelihood scoring')
  config = config.copy_and_resolve_references().unlock()
  config.model.pretrained = ''
  if not config.model.vocab_size:
    raise ValueError('model.vocab_size is 0, from the tokenizer: task '
                     "'plan' reads none, set it")
  method = methods.get(config.method).method(
      config, word_tokenizer(config.model.vocab_size))
  return Model(config, method, jax.eval_shape(method.init, jax.random.key(0)))


def word_tokenizer(vocab_size):
  """One token per word, mark and line; Qwen2 cuts the prompts into as many."""
  def encode(text):
    return [0] * len(re.findall(r'<\|\w+\|>|\w+|[^\w\s]\n?|\n', text))
  return text_lib.Tokenizer(encode, lambda ids: '', 0, 0, vocab_size)


def caption(tokens):
  return types.Item('caption', text=' '.join(['a'] * tokens))


def example_of(model, tokens):
  """(example, constants) of the training set, for a caption of that length."""
  split = types.Split('plan', 'train', (types.Item('video'),),
                      (caption(tokens),), np.zeros(1, np.int32))
  features = np.zeros((1, *model.method.scorer.feature_shape), np.float16)
  examples = model.method.examples(split, features)
  return examples[0], examples.constants


def split_sizes(config):
  """{split: (videos, texts)} of what is trained on and scored."""
  p = config.plan
  if config.data.name == 'shapes':
    return {name: (size, size) for name, size in config.data.sizes.items()}
  share = config.data.validation_fraction
  return {'train': (p.train_videos, p.train_texts),
          'validation': (round(share * p.train_videos),
                         round(share * p.train_texts)),
          'test': (p.videos, p.texts)}


def count_job(model):
  """Minimal FLOPs of {'training': ..., 'scoring': ...}."""
  config, scorer = model.config, model.method.scorer
  sizes = split_sizes(config)
  mean = config.plan.caption_tokens
  count = {}
  if not config.eval.zero_shot:
    example, _ = example_of(model, mean)
    batch = {name: np.asarray(value)[None] for name, value in example.items()}
    texts = sizes['train'][1]
    updates = config.train.steps * config.train.batch_size
    count['training'] = model.method.train_flops(batch) * (
        updates or texts * config.train.epochs)
  count['scoring'] = 0.0
  for name in config.eval.splits:
    videos, texts = sizes[name]
    works = cost_lib.minimal(
        scorer.model.cost, some_prompts(scorer, texts, mean), videos,
        scorer.feature_shape[0])
    if config.eval.zero_shot:
      works = {part: works[part] for part in ('text_given_video', 'text_prior')}
    count['scoring'] += cost_lib.total(works).flops
  return count


def some_prompts(scorer, texts, mean):
  """likelihood.Prompts of captions of 1 to 2 * mean - 1 tokens, in turn."""
  distinct = scorer.prompts([
      caption(1 + n) for n in range(min(texts, 2 * mean - 1))])
  which = [n % len(distinct.labels) for n in range(texts)]
  return distinct._replace(
      labels=tuple(distinct.labels[n] for n in which),
      text_prefixes=tuple(distinct.text_prefixes[n] for n in which))


def rehearse(model, parts, job):
  """What plan.json says of each slice; one compiler per core."""
  layouts = [layout(model.config, part) for part in parts]
  works = [rehearse_training, rehearse_captions, rehearse_clips]
  if model.config.eval.zero_shot:
    works = [rehearse_captions]
  cores = len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(cores) as pool:
    # What takes longest first, so that no core waits for it in the end.
    programs = [[pool.submit(work, model, part, *how)
                 for part, how in zip(parts, layouts)] for work in works]
    programs = [functools.reduce(operator.or_, (p.result() for p in futures))
                for futures in zip(*programs)]
  return [{
      'slice': part.name, 'chips': len(part.devices),
      'hbm_gib': part.chip.hbm_gib, 'mesh': dict(mesh.shape),
      'accumulation_steps': accumulation, 'programs': done,
      'jobs': cost(part, job, model.config.plan.utilization)}
      for part, (mesh, accumulation), done in zip(parts, layouts, programs)]


def cost(part, job, utilization):
  """{job: its FLOPs, hours and dollars on a slice}."""
  chips = len(part.devices)
  speed = chips * part.chip.peak_flops_per_s * utilization
  return {name: {'flops': flops, 'hours': flops / speed / 3600,
                 'dollars': flops / speed / 3600 * chips * part.price}
          for name, flops in job.items()}


def layout(config, part):
  """(mesh, accumulation steps): the config's, as far as its batch allows.

  Where the batch has fewer rows than `data` and `fsdp` have chips, `tensor`
  takes the rest; micro-batches are made larger until they fill the chips.
  """
  size, mesh = config.train.batch_size, None
  shape = config.mesh.to_dict()
  if config.eval.zero_shot:
    return sharding.make_mesh(shape, part.devices), 1
  while mesh is None or size % sharding.batch_shards(mesh):
    if mesh is not None:
      shape['tensor'] *= 2
    mesh = sharding.make_mesh(shape, part.devices)
  rows = size // sharding.batch_shards(mesh)
  accumulation = max(
      steps for steps in range(1, config.train.accumulation_steps + 1)
      if rows % steps == 0)
  return mesh, accumulation


def rehearse_training(model, part, mesh, accumulation):
  """{'training step': ...}, with the largest micro-batch that fits."""
  size, shards = model.config.train.batch_size, sharding.batch_shards(mesh)
  _, state, frozen = training_state(model, mesh)
  held = frozen, state
  def use_of(rows):
    return tpu_slices.compile_for(
        part, lower_training(model, mesh, accumulation, rows),
        f'training step, {rows} rows per chip', held)[1]
  rows = size // accumulation // shards
  use = use_of(rows)
  return {'training step': describe(
      use, frozen, state, (), size=rows * shards, largest=shards * largest(
          model, part, use_of, rows, use, size // shards))}


def largest(model, part, use_of, size, use, cap):
  """The largest size that fits: found by compiling more, or about."""
  if model.config.plan.largest:
    return tpu_slices.find_largest(use_of, size, use, cap, part)
  return tpu_slices.about_largest(size, use, cap, part)


def training_state(model, mesh):
  """(optimizer, abstract State, abstract frozen parameters)."""
  config = model.config
  trainable, frozen = optim.partition(
      sharding.abstract(mesh, model.params), model.method.trainable)
  # How many steps there are changes a constant in the program, no shape.
  optimizer = optim.make_optimizer(config.optim, optim.schedule(
      config.optim, config.train.epochs, 100))
  return optimizer, train.abstract_state(optimizer, trainable, mesh), frozen


def lower_training(model, mesh, accumulation, rows):
  """The training step with `rows` of a micro-batch on each chip."""
  optimizer, state, frozen = training_state(model, mesh)
  example, constants = example_of(
      model, model.config.plan.longest_caption_tokens)
  constants = {name: (value.shape, value.dtype)
               for name, value in constants.items()}
  shape, dtype = constants['video_vocabulary']
  videos = split_sizes(model.config)['train'][0]
  constants['video_vocabulary'] = (videos, *shape[1:]), dtype
  size = rows * accumulation * sharding.batch_shards(mesh)
  batch = {name: jax.ShapeDtypeStruct(
      (size, *np.shape(value)), np.asarray(value).dtype,
      sharding=sharding.batch_sharding(mesh))
      for name, value in example.items()}
  constants = {name: jax.ShapeDtypeStruct(
      shape, dtype, sharding=sharding.constant_sharding(mesh, shape))
      for name, (shape, dtype) in constants.items()}
  update = train.make_update(model.method, optimizer, mesh, 0, accumulation)
  return update.lower(state, frozen, constants, batch)


def rehearse_captions(model, part, mesh, _):
  """{program: ...} of log P(text | video): prefixes and tile."""
  return rehearse_direction(model, part, mesh, 'caption',
                            abstract.visual_prefix, abstract.text_tile)


def rehearse_clips(model, part, mesh, _):
  """{program: ...} of log P(video | text): prefixes and tile."""
  return rehearse_direction(model, part, mesh, 'clip', abstract.text_prefix,
                            abstract.clip_tile)


def rehearse_direction(model, part, mesh, name, lower_prefix, lower_tile):
  """{program: ...}, with the most columns of a tile that fit."""
  shapes, weights = scoring_shapes(model, mesh), sharding.abstract(
      mesh, model.params)
  common = model.method.scorer.model, weights, mesh
  lowered = lower_prefix(*common, shapes)
  compiled, use = tpu_slices.compile_for(
      part, lowered, f'{name} prefixes', weights)
  found = {f'{name} prefixes': describe(use, weights, (), (), size=shapes.rows)}
  if not use.fits:
    return found
  prefix = abstract.outputs(lowered, compiled)
  def use_of(columns):
    tile = shapes._replace(columns=columns)
    return tpu_slices.compile_for(part, lower_tile(*common, tile, prefix),
                              f'{name} tile, {columns} columns',
                              (weights, prefix))[1]
  columns = min(shapes.columns, shapes.texts, shapes.videos)
  sizes, use = {'size': [shapes.rows, columns]}, use_of(columns)
  # Both tiles have eval.columns; captions, the longer, say how many fit.
  if name == 'caption':
    sizes['largest'] = [shapes.rows, largest(
        model, part, use_of, columns, use, shapes.texts)]
  return found | {f'{name} tile': describe(use, weights, (), prefix, **sizes)}


def scoring_shapes(model, mesh):
  """The tile of the config, at the longest caption."""
  config, scorer = model.config, model.method.scorer
  shards = sharding.batch_shards(mesh)
  longest = scorer.prompts([caption(config.plan.longest_caption_tokens)])
  videos, texts = split_sizes(config)[config.eval.splits[-1]]
  return abstract.Shapes(
      rows=math.ceil(config.eval.rows / shards) * shards,
      columns=config.eval.columns, visual_prefix=len(longest.visual_prefix),
      text_prefix=len(longest.text_prefixes[0]),
      labels=len(longest.labels[0]), videos=videos, texts=texts,
      features=scorer.feature_shape)


def describe(use, weights, state, caches, **sizes):
  """One program as plan.json has it, GiB per chip."""
  trees = {'weights': weights, 'state': state, 'caches': caches}
  parts = {name: tpu_slices.chip_bytes(tree) for name, tree in trees.items()}
  if use.arguments:
    parts['inputs'] = use.arguments - sum(parts.values())
  parts['temporaries'] = use.total - sum(parts.values())
  parts['total'] = use.total
  gib = {name: round(size / tpu_slices.GIB, 3) for name, size in parts.items()}
  return {'gib': {'inputs': 0.0, **gib}, 'fits': use.fits, **sizes}


def format_memory(slices, largest):
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
          f'{part["hbm_gib"]:g}', 'yes' if program['fits'] else 'NO',
          _size(program.get('largest', ''))])
  return 'HBM per chip in GiB\n' + _table(rows)


def format_job(slices, utilization):
  """A table of FLOPs, hours and costs, for people."""
  rows = [['slice', 'chips', 'mesh', 'accumulation', 'job', 'minimal FLOPs',
           'hours', 'dollars']]
  for part in slices:
    mesh = ' '.join(f'{axis}={size}' for axis, size in part['mesh'].items())
    for name, job in part['jobs'].items():
      rows.append([
          part['slice'], str(part['chips']), mesh,
          str(part['accumulation_steps']), name, f'{job["flops"]:.2e}',
          f'{job["hours"]:.3g}',
          f'{job["dollars"]:.0f}' if job['dollars'] else '-'])
  return f'At {utilization:.0%} of peak\n' + _table(rows)


def _size(size):
  return ' x '.join(map(str, size)) if isinstance(size, list) else str(size)


def _table(rows):
  widths = [max(map(len, column)) for column in zip(*rows)]
  rows.insert(1, ['-' * width for width in widths])
  return '\n'.join('| ' + ' | '.join(
      cell.ljust(width) for cell, width in zip(row, widths)) + ' |'
      for row in rows) + '\n'
